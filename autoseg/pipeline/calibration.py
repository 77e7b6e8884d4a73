"""Learning what Dice to expect: held-out cases predicted as they are, and spoilt by rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.reading import aligned, read_case, read_label_map
from autoseg.evaluation.corrections import scored_classes
from autoseg.evaluation.dice_estimates import Observations, calibrate
from autoseg.evaluation.mask_pair import MapPair
from autoseg.evaluation.metrics import METRICS, score_classes
from autoseg.evaluation.shifts import SHIFTS, shifted
from autoseg.images.volume import Volume, read_labels
from autoseg.parallel import Progress, silent
from autoseg.postprocessing.quality import QualityModel

if TYPE_CHECKING:
    from autoseg.inference.predictor import Predictor

DICE = {"dice": METRICS["dice"]}
SPOILT_COPIES = 60  # of all folds together, which are enough for a line


@dataclass(frozen=True, slots=True)
class HeldOutMask:
    """A case, its mask by the models that have not seen it, and by class the soft Dice."""

    case: Case
    mask: Path
    expected_dice: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class JudgedMask:
    """One mask of a held-out case: by class the soft Dice, the true one, and whether the reference
    has the class; None where there is none."""

    fold: int
    is_spoilt: bool
    expected_dice: dict[str, float | None]
    dice: dict[str, float | None]
    has_class: dict[str, bool]


def learned_quality(
    masks: Mapping[int, Sequence[HeldOutMask]],
    labels: LabelScheme,
    predictor_of: Callable[[int], "Predictor"],
    progress: Progress = silent,
) -> QualityModel | None:
    """The quality model of what made the held-out `masks` of each fold; None with too few of them.

    If there are enough, some cases are spoilt and segmented by the predictor of their fold.
    """
    folds = {fold: own for fold, own in masks.items() if own}
    copies = SPOILT_COPIES // max(1, len(folds))
    count = sum(min(copies, len(own)) for own in folds.values())
    judged = [_judged(labels, fold, mask) for fold, own in folds.items() for mask in own]
    if calibrate(observations(judged)) is None:
        return None
    done = 0
    for fold, own in folds.items():
        predictor = predictor_of(fold)
        for mask, shift in zip(own[:copies], cycle(SHIFTS)):
            progress(done, count, "judging spoilt scans")
            scan, reference = read_case(mask.case)
            rng = np.random.default_rng(crc32(mask.case.case_id.encode()))  # equal in every run
            spoilt = replace(scan, array=shifted(scan.array, shift, rng))
            judged.append(judge_mask(predictor, spoilt, reference, fold, is_spoilt=True))
            done += 1
    progress(count, count, "judging spoilt scans")
    return calibrate(observations(judged))


def observations(judged: Sequence[JudgedMask]) -> dict[str, Observations]:
    """By class, what was seen of all masks."""
    names = judged[0].dice if judged else {}
    return {
        name: Observations(
            expected_dice=np.array([mask.expected_dice[name] for mask in judged], np.float64),
            dice=np.array([mask.dice[name] for mask in judged], np.float64),
            fold=np.array([mask.fold for mask in judged]),
            is_spoilt=np.array([mask.is_spoilt for mask in judged]),
            has_class=np.array([mask.has_class[name] for mask in judged]),
        )
        for name in names
    }


def judge_mask(
    predictor: "Predictor", scan: Volume, reference: Volume, fold: int, is_spoilt: bool
) -> JudgedMask:
    """Segment a scan whose reference [z, y, x] is known."""
    from autoseg.inference.maps import RequestedMaps

    found = predictor(scan, requested=RequestedMaps(confidence=True))
    soft = {c.name: c.expected_dice for c in found.confidence or ()}
    dice, has_class = _compared(predictor.card.labels, found.labels, reference)
    return JudgedMask(fold, is_spoilt, soft, dice, has_class)


def _judged(labels: LabelScheme, fold: int, own: HeldOutMask) -> JudgedMask:
    assert own.case.label is not None, own.case.case_id
    mask = read_labels(own.mask)
    dice, has_class = _compared(labels, mask, aligned(read_label_map(own.case.label), mask))
    return JudgedMask(fold, False, own.expected_dice, dice, has_class)


def _compared(
    labels: LabelScheme, mask: Volume, reference: Volume
) -> tuple[dict[str, float | None], dict[str, bool]]:
    """Dice of each class, and whether the reference has it."""
    truth = labels.as_mask(reference.array, reference.grid.spacing_mm)
    annotated = None if labels.ignore is None else truth != labels.ignore
    maps = MapPair(mask.array, truth, annotated, reference.grid.spacing_mm)
    classes = scored_classes(labels)
    scores = score_classes(maps, classes, DICE)
    has_class = {name: pair.sizes_vox[1] > 0 for name, pair in maps.masks(classes)}
    return {name: own.scores["dice"] for name, own in scores.items()}, has_class
