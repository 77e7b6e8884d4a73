"""Agreement of boundaries counted in voxels. None of these is asked for where a mask is empty.

A boundary towards the scan's border, or towards what nobody annotated, counts as any other.
"""

import numpy as np

from autoseg.evaluation.mask_pair import MaskPair
from autoseg.evaluation.surfaces import Mask, boundary_voxels, nearest_distances

IOU_DEPTH = 0.02  # of the scan's diagonal (Cheng et al. 2021)
F1_TOLERANCE = 0.0075  # of the scan's diagonal, as MATLAB's bfscore has it


def boundary_iou(pair: MaskPair) -> float:
    """IoU of the two masks' rims, which are 2 % of the scan's diagonal deep (Cheng et al. 2021).

    A rim is the mask less what is left when 3 x 3 (x 3) voxels are eroded as many times as it is
    deep: at least once, and voxels count whatever their size in mm.
    """
    depth_vox = max(1, round(IOU_DEPTH * diagonal_vox(pair)))
    predicted, reference = (_rim(mask, depth_vox) for mask in pair.drawn)
    common = np.count_nonzero(predicted & reference)
    return common / (np.count_nonzero(predicted) + np.count_nonzero(reference) - common)


def boundary_f1(pair: MaskPair) -> float:
    """Harmonic mean of the shares of each boundary that lie near the other (Csurka et al. 2013).

    Boundaries are voxels that have a face neighbour outside; near is within 0.75 % of the scan's
    diagonal in voxels, so in scans of a diagonal under 134 voxels only voxels of both boundaries.
    """
    predicted, reference = (boundary_voxels(mask) for mask in pair.drawn)
    limit_vox = F1_TOLERANCE * diagonal_vox(pair)
    precision = _share_near(predicted, reference, limit_vox)
    recall = _share_near(reference, predicted, limit_vox)
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def diagonal_vox(pair: MaskPair) -> float:
    """That of the scan, of the slice where it is a single one."""
    return float(np.linalg.norm([pair.scan_shape_vox[axis] for axis in pair.axes]))


def _rim(mask: Mask, depth_vox: int) -> Mask:
    """Voxels no farther than that from outside, counting diagonal steps as one."""
    inside = mask
    for axis in range(mask.ndim):
        inside = _surrounded(inside, depth_vox, axis)
    return mask & ~inside


def _surrounded(mask: Mask, radius_vox: int, axis: int) -> Mask:
    """Where the mask holds along an axis up to some voxels either way."""
    padding = [(radius_vox, radius_vox) if a == axis else (0, 0) for a in range(mask.ndim)]
    lines = np.moveaxis(np.pad(mask, padding), axis, 0)
    covered, width = 1, 2 * radius_vox + 1
    while covered < width:  # windows of doubling width, so that few passes do
        step = min(covered, width - covered)
        lines = lines[:-step] & lines[step:]
        covered += step
    return np.moveaxis(lines, 0, axis)


def _share_near(boundary: Mask, other: Mask, limit_vox: float) -> float:
    if limit_vox < 1:
        return np.count_nonzero(boundary & other) / np.count_nonzero(boundary)
    distances_vox = nearest_distances(boundary, other, (1.0,) * boundary.ndim)
    return float(np.mean(distances_vox <= limit_vox))
