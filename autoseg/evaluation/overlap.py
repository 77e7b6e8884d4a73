"""Measures of two masks that count voxels. None of them is asked for where both are empty."""

from autoseg.evaluation.mask_pair import MaskPair


def pixel_accuracy(pair: MaskPair) -> float | None:
    """Share of the scan's voxels on which both agree: (TP + TN) / all. None of no voxels."""
    if not pair.scored_vox:
        return None
    return 1 - (sum(pair.sizes_vox) - 2 * pair.common_vox) / pair.scored_vox


def dice(pair: MaskPair) -> float:
    """2|A and B| / (|A| + |B|) (Dice 1945)."""
    return 2 * pair.common_vox / sum(pair.sizes_vox)


def iou(pair: MaskPair) -> float:
    """|A and B| / |A or B| (Jaccard 1912)."""
    return pair.common_vox / (sum(pair.sizes_vox) - pair.common_vox)


def precision(pair: MaskPair) -> float | None:
    """Share of the prediction that is right: TP / (TP + FP). None without a prediction."""
    predicted_vox, _ = pair.sizes_vox
    return pair.common_vox / predicted_vox if predicted_vox else None


def sensitivity(pair: MaskPair) -> float | None:
    """Share of the reference that is found: TP / (TP + FN). None without a reference."""
    _, reference_vox = pair.sizes_vox
    return pair.common_vox / reference_vox if reference_vox else None


def specificity(pair: MaskPair) -> float | None:
    """Share of what is outside the reference that is left out: TN / (TN + FP)."""
    predicted_vox, reference_vox = pair.sizes_vox
    outside_vox = pair.scored_vox - reference_vox
    return 1 - (predicted_vox - pair.common_vox) / outside_vox if outside_vox else None


def volume_difference_ml(pair: MaskPair) -> float:
    """Volume of the prediction less that of the reference."""
    predicted_ml, reference_ml = pair.volumes_ml
    return predicted_ml - reference_ml


def volume_difference_percent(pair: MaskPair) -> float | None:
    """The difference of volumes as a share of the reference's. None without a reference."""
    _, reference_ml = pair.volumes_ml
    return 100 * volume_difference_ml(pair) / reference_ml if reference_ml else None
