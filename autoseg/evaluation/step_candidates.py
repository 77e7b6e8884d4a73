"""Which steps of post-processing are tried: sizes and thresholds are swept over what masks have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.reading import aligned, read_label_map
from autoseg.evaluation.corrections import CorrectedCase, scored_classes
from autoseg.images.volume import read_labels
from autoseg.postprocessing.steps import (
    FOREGROUND,
    ROUNDING,
    Absent,
    Confidence,
    Holes,
    LargestComponent,
    Measure,
    Parts,
    SmallComponents,
    Step,
    measured,
)

VOLUME_QUANTILES = (0.5, 0.75, 0.9, 0.95, 1.0)  # of components that are not a scan's largest
PROBABILITY_QUANTILES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)  # of scans whose mask has a class
VOLUME_DIGITS, PROBABILITY_DIGITS = 2, 3
MEASURES: tuple[Measure, ...] = ("largest_probability", "mean_probability")


@dataclass(frozen=True, slots=True)
class CaseParts:
    """Of each class: volumes of components but the largest, in mm³; and whether the reference has
    the class."""

    spare_mm3: Mapping[str, NDArray[np.float64]]
    seen: Mapping[str, bool]


def look_at_case(case: CorrectedCase) -> CaseParts:
    """What a mask consists of."""
    truth = read_label_map(case.reference)
    mask = aligned(read_labels(case.mask), truth)
    parts = Parts(mask.array, truth.grid.spacing_mm, {})
    classes = scored_classes(case.labels)
    volumes = {name: np.sort(parts.volumes_mm3(values)) for name, values in classes.items()}
    present = np.unique(truth.array) if not case.labels.instances else np.array([])
    return CaseParts(
        spare_mm3={name: found[:-1] for name, found in volumes.items()},
        seen={name: bool(np.isin(values, present).any()) for name, values in classes.items()},
    )


def steps_to_try(
    labels: LabelScheme,
    parts: Sequence[CaseParts],
    confidences: Sequence[Mapping[str, Confidence]],
) -> list[tuple[Step, ...]]:
    """Groups of which one step at most is kept: all foreground, then class by class components,
    holes, and whether it is there; in each the gentlest first.

    Sizes and thresholds come from predictions alone, so that a fold's references have no say in
    what is tried on it.
    """
    groups: list[tuple[Step, ...]] = []
    classes = scored_classes(labels)
    if len(classes) > 1:
        groups.append((foreground_step(labels),))
    for index, (name, values) in enumerate(classes.items()):
        becomes = value_around(labels, index)
        spare = np.concatenate([case.spare_mm3[name] for case in parts])
        groups.append(
            (
                *(
                    SmallComponents(of=name, values=values, min_volume_mm3=size, becomes=becomes)
                    for size in _above(spare, VOLUME_QUANTILES, VOLUME_DIGITS)
                ),
                LargestComponent(of=name, values=values, becomes=becomes),
            )
        )
        painted = labels.region_order[index] if labels.regions else values[0]
        if painted in values:
            groups.append((Holes(of=name, values=values, becomes=painted),))
        groups.append(tuple(_absences(name, values, becomes, confidences)))
    return groups


def foreground_step(labels: LabelScheme) -> LargestComponent:
    """The largest component of all classes together."""
    return LargestComponent(of=FOREGROUND, values=tuple(sorted(labels.values[1:])))


def class_steps(labels: LabelScheme) -> list[LargestComponent]:
    """The largest component of each class, or region, as nnU-Net removes the others."""
    classes = scored_classes(labels)
    return [LargestComponent(of=name, values=values) for name, values in classes.items()]


def value_around(labels: LabelScheme, index: int) -> int:
    """What a voxel becomes that is taken out of a region: part of the smallest region around it, as
    if it had not been painted; else, and for classes, background."""
    if not labels.regions:
        return 0
    own = set(labels.regions[index].values)
    around = [
        (len(region.values), value)
        for region, value in zip(labels.regions, labels.region_order, strict=True)
        if own < set(region.values) and value not in own
    ]
    return min(around)[1] if around else 0


def _absences(
    name: str,
    values: tuple[int, ...],
    becomes: int,
    confidences: Sequence[Mapping[str, Confidence]],
) -> Iterator[Absent]:
    present = [own[name] for own in confidences if own[name].mean_probability is not None]
    for measure in MEASURES:
        found = [measured(confidence, measure) for confidence in present]
        probabilities = np.array([p for p in found if p is not None])
        for threshold in _above(probabilities, PROBABILITY_QUANTILES, PROBABILITY_DIGITS):
            if threshold <= 1:
                yield Absent(
                    of=name, values=values, measure=measure, threshold=threshold, becomes=becomes
                )


def _above(values: NDArray[np.float64], quantiles: Sequence[float], digits: int) -> list[float]:
    """Numbers of few digits just above some quantiles, each once, rising."""
    if not values.size:
        return []
    found = set()
    for value in np.quantile(values, quantiles, method="lower"):
        unit = 10.0 ** (np.floor(np.log10(value)) - digits + 1)
        units = np.floor(value / unit + ROUNDING) + 1  # 1.2 / 0.1 is a little less than 12
        found.add(float(f"{units * unit:.{digits}g}"))
    return sorted(found)
