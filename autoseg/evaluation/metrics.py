"""Measures of agreement between two label maps of one scan.

A new one is a row of METRICS and a field of ClassScore; where an end of its scale is better, also
a field of Mean.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Spacing3
from autoseg.records import Record

EMPTY_RULE = (
    "a class absent from both masks has no Dice and is left out of the means; "
    "absent from only one of them it has Dice 0"
)


class ClassScore(Record):
    """One class in one case. `dice` is None where neither map has the class.

    Volumes are in millilitres: `volume_ml` of the prediction, and of the reference.
    """

    dice: float | None
    volume_ml: float
    reference_volume_ml: float


class Mean(Record):
    """Mean scores; None when there was nothing to average."""

    dice: float | None


@dataclass(frozen=True)
class MaskPair:
    """One class in both maps of a scan: three masks [z, y, x].

    Where `annotated` is false nobody has looked, and the other two are false as well; None means
    that all of the scan is annotated.
    """

    predicted: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    annotated: NDArray[np.bool_] | None
    spacing_mm: Spacing3

    @cached_property
    def sizes_vox(self) -> tuple[int, int]:
        """Voxels of the prediction, and of the reference."""
        return int(np.count_nonzero(self.predicted)), int(np.count_nonzero(self.reference))

    @property
    def volumes_ml(self) -> tuple[float, float]:
        """Volumes of the prediction, and of the reference."""
        voxel_mm3 = float(np.prod(self.spacing_mm))
        predicted_vox, reference_vox = self.sizes_vox
        return predicted_vox * voxel_mm3 / 1000, reference_vox * voxel_mm3 / 1000


@dataclass(frozen=True, slots=True)
class EmptyRule:
    """A class's score where it is absent from both masks, or from only one of them."""

    from_both: float | None
    from_one: float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for a pair of masks. Where an end of the scale is better, means are taken of it.

    Without a rule for empty masks `function` is asked for these too.
    """

    function: Callable[[MaskPair], float]
    unit: str
    better: Literal["higher", "lower"] | None
    empty: EmptyRule | None

    def score(self, pair: MaskPair) -> float | None:
        if self.empty is None or 0 not in pair.sizes_vox:
            return self.function(pair)
        return self.empty.from_one if any(pair.sizes_vox) else self.empty.from_both


def dice(pair: MaskPair) -> float:
    """2|A and B| / (|A| + |B|) (Dice 1945)."""
    return 2 * int(np.count_nonzero(pair.predicted & pair.reference)) / sum(pair.sizes_vox)


# A class that is missing from both maps says nothing about the prediction, so it has no Dice.
METRICS = {
    "dice": Metric(dice, "", "higher", EmptyRule(from_both=None, from_one=0.0)),
    "volume_ml": Metric(lambda pair: pair.volumes_ml[0], "ml", None, None),
    "reference_volume_ml": Metric(lambda pair: pair.volumes_ml[1], "ml", None, None),
}


def score_classes(
    prediction: NDArray[np.integer[Any]],
    reference: NDArray[np.integer[Any]],
    annotated: NDArray[np.bool_] | None,
    classes: dict[str, tuple[int, ...]],
    spacing_mm: Spacing3,
) -> dict[str, ClassScore]:
    """Score classes, or regions of several label values, in a pair of maps [z, y, x].

    Voxels outside `annotated` [z, y, x] do not count; without it all do.
    """

    def mask(labels: NDArray[np.integer[Any]], values: tuple[int, ...]) -> NDArray[np.bool_]:
        inside = np.isin(labels, values)
        return inside if annotated is None else inside & annotated

    return {
        name: _score(
            MaskPair(mask(prediction, values), mask(reference, values), annotated, spacing_mm)
        )
        for name, values in classes.items()
    }


def absent_score() -> ClassScore:
    """That of a class which neither map has."""
    nothing = np.zeros((1, 1, 1), bool)
    return _score(MaskPair(nothing, nothing, None, (1.0, 1.0, 1.0)))


def mean_score(scores: Iterable[ClassScore | Mean]) -> Mean:
    """Means of every metric that has a better direction, over the scores that there are."""
    rows = [score.model_dump() for score in scores]
    means = {
        name: _mean([row[name] for row in rows])
        for name, metric in METRICS.items()
        if metric.better is not None
    }
    return Mean.model_validate(means)


def _score(pair: MaskPair) -> ClassScore:
    return ClassScore.model_validate({name: m.score(pair) for name, m in METRICS.items()})


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
