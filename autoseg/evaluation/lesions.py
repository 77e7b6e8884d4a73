"""Measures of lesions: of objects that are found, missed or made up."""

from dataclasses import replace

from pydantic import Field

from autoseg.evaluation.distances import hd95_mm
from autoseg.evaluation.joined_lesions import BRATS, lesion_masks
from autoseg.evaluation.mask_pair import MaskPair
from autoseg.records import Record


class LesionRule(Record):
    """When a lesion is found: it has so many voxels in common with predicted ones.

    One is enough in the ISLES 2022 challenge.
    """

    least_vox: int = Field(default=1, ge=1)


LESIONS = LesionRule()


def lesion_f1(pair: MaskPair) -> float | None:
    """TP / (TP + FP/2 + FN/2) of lesions found, predicted lesions that touch none, and missed ones.

    A lesion is found by one voxel in common, as in ISLES 2022. None where no object counts.
    """
    counts = pair.objects.touching(LESIONS.least_vox)
    of_all = counts.found + (counts.false + counts.missed) / 2
    return counts.found / of_all if of_all else None


def lesion_sensitivity(pair: MaskPair) -> float | None:
    """Share of the reference's lesions that are found. None without any."""
    counts = pair.objects.touching(LESIONS.least_vox)
    lesions = counts.found + counts.missed
    return counts.found / lesions if lesions else None


def false_positives(pair: MaskPair) -> float:
    """How many predicted lesions of the scan touch none of the reference."""
    return float(pair.objects.touching(LESIONS.least_vox).false)


def brats_dice(pair: MaskPair) -> float:
    """The sum of Dice of lesions above 50 mm³, by their number and that of false positives.

    As in BraTS 2023: components of the reference that touch once dilated are one lesion, which is
    compared with all predicted components that overlap the dilated lesion. 1 where nothing counts.
    """
    lesions = pair.joined_lesions
    return float(lesions.dice[lesions.scored].sum()) / lesions.count if lesions.count else 1.0


def brats_hd95_mm(pair: MaskPair) -> float:
    """The same of 95th percentiles of surface distances; missed and false lesions have 374 mm.

    Surfaces are elements with an area, whatever the pair's convention. 0 where nothing counts.
    """
    lesions = pair.joined_lesions
    found_mm = [
        hd95_mm(replace(pair, predicted=predicted, reference=reference, surfaces="area"))
        for predicted, reference in lesion_masks(pair.components, lesions)
    ]
    without_mm = BRATS.penalty_mm * (lesions.count - len(found_mm))
    return (sum(found_mm) + without_mm) / lesions.count if lesions.count else 0.0
