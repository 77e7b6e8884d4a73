"""Learning what Dice to expect: held-out cases predicted as they are, and spoilt by rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.dataset.reading import read_case
from autoseg.evaluation.calibration import Observations, calibrate
from autoseg.evaluation.corrections import scored_classes
from autoseg.evaluation.mask_pair import MapPair
from autoseg.evaluation.metrics import METRICS, score_classes
from autoseg.evaluation.shifts import SHIFTS, shifted
from autoseg.images.volume import Volume
from autoseg.parallel import Progress, silent
from autoseg.postprocessing.quality import QualityModel

if TYPE_CHECKING:
    from autoseg.inference.predictor import Predictor

DICE = {"dice": METRICS["dice"]}


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
    cases: Mapping[int, Sequence[Case]],
    predictor_of: Callable[[int], "Predictor"],
    progress: Progress = silent,
) -> QualityModel | None:
    """The quality model of what predicts, of the held-out `cases` of each fold and the predictor
    of that fold alone; None with too few cases. Every case is predicted as it is, and once spoilt.
    """
    count = sum(map(len, cases.values()))
    judged: list[JudgedMask] = []
    for fold, held_out in cases.items():
        if not held_out:
            continue
        predictor = predictor_of(fold)
        for case, shift in zip(held_out, cycle(SHIFTS)):
            progress(len(judged) // 2, count, "judging held-out scans")
            judged += _judged(predictor, fold, case, shift)
    progress(count, count, "judging held-out scans")
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
    from autoseg.inference.whole_scan import RequestedMaps

    found = predictor(scan, requested=RequestedMaps(confidence=True))
    maps = _maps(predictor.card.labels, found.labels, reference)
    assert found.confidence is not None
    classes = scored_classes(predictor.card.labels)
    pairs = dict(maps.masks(classes))
    scores = score_classes(maps, classes, DICE)
    return JudgedMask(
        fold,
        is_spoilt,
        {c.name: c.expected_dice for c in found.confidence},
        {name: own.scores["dice"] for name, own in scores.items()},
        {name: pair.sizes_vox[1] > 0 for name, pair in pairs.items()},
    )


def _judged(predictor: "Predictor", fold: int, case: Case, shift: str) -> Iterator[JudgedMask]:
    scan, reference = read_case(case)
    rng = np.random.default_rng(crc32(case.case_id.encode()))  # the same in every run
    yield judge_mask(predictor, scan, reference, fold, is_spoilt=False)
    spoilt = replace(scan, array=shifted(scan.array, shift, rng))
    yield judge_mask(predictor, spoilt, reference, fold, is_spoilt=True)


def _maps(labels: LabelScheme, mask: Volume, reference: Volume) -> MapPair:
    truth = instance_classes(reference.array) if labels.instances else reference.array
    annotated = None if labels.ignore is None else truth != labels.ignore
    return MapPair(mask.array, truth, annotated, reference.grid.spacing_mm)
