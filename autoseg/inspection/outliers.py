"""Scans unlike all others of their dataset: in spacing, in size, or in their values.

A wrong unit or one wild voxel costs memory and accuracy without a word. The factors are far beyond
what protocols differ by; in a set of 200 hippocampi 24 scans have 1000 times the others' scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.problems import Problem
from autoseg.inspection.case import Inspection
from autoseg.inspection.statistics import CaseStats, Samples

SPACING_FACTOR = 20.0
EDGE_FACTOR = 20.0  # of the longest edge in voxels
VALUES_FACTOR = 100.0
WILDEST_FACTOR = 1e6  # of a single voxel, against what foreground has
FEW_FRACTION = 0.05  # of all scans, how many may be strays
APART = 4.0  # and how far they are from the nearest other
FEWEST_CASES = 3  # of two nobody knows which is wrong


@dataclass(frozen=True, slots=True)
class _Scan:
    case: Case
    stats: CaseStats
    samples: Samples | None


@dataclass(frozen=True, slots=True)
class _Stray:
    """A scan by index, its value, and the range of those that are not like it."""

    index: int
    value: float
    others: str


def outliers(cases: list[Case], inspections: dict[str, Inspection]) -> Iterator[Problem]:
    """A warning for each case, and each way, in which it is unlike the others."""
    scans = []
    for case in cases:
        inspection = inspections.get(case.case_id)
        if inspection is not None and inspection.stats is not None:
            scans.append(_Scan(case, inspection.stats, inspection.samples))
    yield from _wild_voxels(scans)
    if len(scans) < FEWEST_CASES:
        return
    yield from _spacings_and_sizes(scans)
    yield from _intensities(scans)


def _spacings_and_sizes(scans: list[_Scan]) -> Iterator[Problem]:
    spacings = [sorted(_known_spacing_mm(scan.stats)) for scan in scans]
    told = set()
    for which, place in (("finest", 0), ("coarsest", -1)):
        for stray in _strays([mm[place] for mm in spacings], SPACING_FACTOR):
            if stray.index not in told:
                yield _outlier(
                    scans[stray.index].case,
                    f"its {which} spacing is {stray.value:.4g} mm, that of the others "
                    f"{stray.others} mm.",
                    "Correct the header if its unit is wrong (micrometres, metres), or remove the "
                    "case.",
                )
            told.add(stray.index)
    edges = [float(max(scan.stats.shape_vox)) for scan in scans]
    for stray in _strays(edges, EDGE_FACTOR):
        yield _outlier(
            scans[stray.index].case,
            f"its longest edge has {stray.value:.0f} voxels, that of the others {stray.others}.",
            "Cut it to the region that the others show, or remove the case.",
        )


def _known_spacing_mm(stats: CaseStats) -> list[float]:
    """Spacings, but not that across a single slice, which nobody knows."""
    pairs = zip(stats.spacing_mm, stats.shape_vox, strict=True)
    return [mm for mm, size in pairs if size > 1] or list(stats.spacing_mm)


def _intensities(scans: list[_Scan]) -> Iterator[Problem]:
    labelled = [scan for scan in scans if scan.stats.intensity and scan.samples is not None]
    if len(labelled) < FEWEST_CASES:
        return
    fix = "Export it again with the same scaling, or remove the case."
    for channel in range(len(labelled[0].stats.intensity or ())):
        scales = [_scale(scan, channel) for scan in labelled]
        medians = [(scan.stats.intensity or ())[channel].median for scan in labelled]
        by_scale = list(_strays(scales, VALUES_FACTOR))
        for stray in by_scale:
            scan = labelled[stray.index]
            what = f"its values reach {stray.value:.4g}, those of the others {stray.others}"
            yield _outlier(scan.case, f"{what}{_of_channel(scan, channel)}.", fix, channel)
        for index in {*range(len(labelled))} - {stray.index for stray in by_scale}:
            scan, others = labelled[index], medians[:index] + medians[index + 1 :]
            low, high = min(others), max(others)
            width = max(high - low, float(np.median(scales)))
            beyond = max(medians[index] - high, low - medians[index])
            if beyond > VALUES_FACTOR * width > 0:
                what = f"the median of its foreground is {medians[index]:.4g}, that of the others "
                what += f"{low:.4g} to {high:.4g}{_of_channel(scan, channel)}."
                yield _outlier(scan.case, what, fix, channel)


def _scale(scan: _Scan, channel: int) -> float:
    """The largest size of a scan's values, but for the wildest hundredth."""
    assert scan.samples is not None
    sketch = scan.samples.class_sketch[:, channel]  # [class, quantile]
    return float(np.percentile(np.abs(sketch), 99)) if sketch.size else 0.0


def _wild_voxels(scans: list[_Scan]) -> Iterator[Problem]:
    """Single voxels that exceed by far what any foreground has: left by overflow, or undefined."""
    channels = max((len(scan.stats.intensity or ()) for scan in scans), default=0)
    for channel in range(channels):
        usual = [
            max(abs(values.percentile_99_5), abs(values.percentile_00_5))
            for scan in scans
            for values in (scan.stats.intensity or ())[channel : channel + 1]
        ]
        limit = WILDEST_FACTOR * float(np.median(usual))
        for scan in scans:
            for low, high in scan.stats.ranges[channel : channel + 1]:
                wildest = max((low, high), key=abs)
                if limit > 0 and abs(wildest) > limit:
                    yield _outlier(
                        scan.case,
                        f"holds a value of {wildest:.4g}, where the foreground of all scans is "
                        f"within {max(usual):.4g}{_of_channel(scan, channel)}.",
                        "Replace such voxels (overflow, or never set), or remove the case.",
                        channel,
                    )


def _strays(values: list[float], factor: float) -> Iterator[_Stray]:
    """Positive values far above all but a few, or far below.

    Of a group that is not small nobody knows that it is wrong: one scanner's scans may all have
    another scale.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    few = max(1, int(len(values) * FEW_FRACTION))
    for ranked, sign in ((order, 1), (order[::-1], -1)):
        for count in range(few, 0, -1):
            rest = sorted(values[index] for index in ranked[:-count])
            nearest, usual = values[ranked[-count]], float(np.median(rest))
            if rest[0] <= 0 or nearest <= 0:
                continue
            next_to_it = rest[-1] if sign > 0 else rest[0]
            if min((nearest / usual) ** sign / factor, (nearest / next_to_it) ** sign / APART) > 1:
                text = f"{rest[0]:.4g} to {rest[-1]:.4g}"
                yield from (_Stray(index, values[index], text) for index in ranked[-count:])
                break


def _of_channel(scan: _Scan, channel: int) -> str:
    return f" (channel {channel})" if len(scan.stats.ranges) > 1 else ""


def _outlier(case: Case, what: str, fix: str, channel: int = 0) -> Problem:
    path = case.channels[min(channel, len(case.channels) - 1)].path
    return Problem(kind="outlier", case_id=case.case_id, file=str(path), what=what, fix=fix)
