"""Measures of objects that match where their IoU is above one half."""

from autoseg.evaluation.mask_pair import MaskPair


def panoptic_quality(pair: MaskPair) -> float | None:
    """The IoU of matches over TP + FP/2 + FN/2 (Kirillov 2019, equation 1), of one scan.

    Objects match where their IoU is strictly above 0.5. None where no object counts.
    """
    counts = pair.objects.counts_at(0.5, strictly=True)
    of_all = counts.found + (counts.false + counts.missed) / 2
    return _matched_iou(pair) / of_all if of_all else None


def segmentation_quality(pair: MaskPair) -> float | None:
    """The mean IoU of matches; 0 without any, as in panopticapi. None where no object counts."""
    counts = pair.objects.counts_at(0.5, strictly=True)
    if not counts.found:
        return 0.0 if counts.false or counts.missed else None
    return _matched_iou(pair) / counts.found


def recognition_quality(pair: MaskPair) -> float | None:
    """The F1 of matches, TP / (TP + FP/2 + FN/2). None where no object counts."""
    counts = pair.objects.counts_at(0.5, strictly=True)
    of_all = counts.found + (counts.false + counts.missed) / 2
    return counts.found / of_all if of_all else None


def jaccard_50(pair: MaskPair) -> float | None:
    """TP / (TP + FP + FN) of matches with an IoU of at least 0.5.

    StarDist and Cellpose call it average precision (Schmidt 2018); COCO's is another. None where no
    object counts.
    """
    return _jaccard(pair, 0.5)


def jaccard_75(pair: MaskPair) -> float | None:
    """The same with an IoU of at least 0.75."""
    return _jaccard(pair, 0.75)


def jaccard_90(pair: MaskPair) -> float | None:
    """The same with an IoU of at least 0.9."""
    return _jaccard(pair, 0.9)


def _jaccard(pair: MaskPair, iou: float) -> float | None:
    counts = pair.objects.counts_at(iou)
    of_all = counts.found + counts.false + counts.missed
    return counts.found / of_all if of_all else None


def _matched_iou(pair: MaskPair) -> float:
    matched = pair.objects.matched_ious
    return float(matched[matched > 0.5].sum())
