"""How far two surfaces are apart, in mm. None of these is asked for where a mask is empty.

All take the same distances of one pair, between surfaces as its convention has them: voxels that
have a face neighbour outside (as MONAI and MetricsReloaded have it), or elements with an area (as
DeepMind's surface-distance has it). Beyond the scan, and where nobody annotated, there is
background: a mask that reaches there has a surface there.
"""

from autoseg.evaluation.mask_pair import MaskPair


def hd_mm(pair: MaskPair) -> float:
    """The largest distance of either surface from the other (Hausdorff 1914)."""
    return max(float(distances.mm.max()) for distances in pair.surface_distances)


def hd95_mm(pair: MaskPair) -> float:
    """The larger of the two 95th percentiles, from prediction to reference and back.

    Others pool both directions before they take one percentile, which gives less.
    """
    return max(distances.percentile_mm(95) for distances in pair.surface_distances)


def asd_mm(pair: MaskPair) -> float:
    """The average symmetric surface distance, over the elements of both surfaces together.

    The sum of all distances by the sum of all elements (Heimann et al. 2009). MASD differs: it is
    the mean of the two directions' means, in which the smaller surface counts as much.
    """
    there, back = pair.surface_distances
    return (there.total_mm + back.total_mm) / (there.amount + back.amount)


def nsd(pair: MaskPair) -> float:
    """Share of both surfaces within the tolerance of the other (Nikolov et al. 2021)."""
    near = sum(distances.amount_within(pair.tolerance_mm) for distances in pair.surface_distances)
    return near / sum(distances.amount for distances in pair.surface_distances)
