"""Frames put in order: which volumes a series holds, and what is odd in their slices."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Grid
from autoseg.images.dicom.headers import TOLD_APART_BY, Frame, Instance, Slice
from autoseg.images.dicom.pixels import hold_the_same
from autoseg.images.raw import Oddity

SAME_DIRECTION = 1e-3  # of direction cosines
SAME_POSITION_MM = 1e-2
UNEVEN = 0.05  # of the usual distance between slices: what rounding may do
UNEVEN_MM = 0.02
OFF_LINE_MM = 0.1
LOST = 0.2  # of its slices, that a volume of a series may lack against the others
MOST_GAPS = 0.5  # of all slices: more missing than this is no series with gaps
SHOWN = 5
NOT_PLACED = (
    "that state no position in the patient: pictures over time (a cine) or views from several "
    "directions, not slices of a volume. Export those to be segmented as single images"
)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Stack:
    """A volume: its slices along z, None where one is missing; what sets it apart in its series.

    `wrong` says why it cannot be used.
    """

    slices: tuple[Slice | None, ...]
    affine_ras_mm: NDArray[np.float64] | None
    told_by: str = ""
    oddities: tuple[Oddity, ...] = ()
    wrong: str | None = None

    @property
    def present(self) -> list[Slice]:
        return [one for one in self.slices if one is not None]

    @property
    def first(self) -> Slice:
        return self.present[0]

    @property
    def grid(self) -> Grid:
        assert self.affine_ras_mm is not None
        rows, columns = self.first.instance.shape
        return Grid((len(self.slices), rows, columns), self.affine_ras_mm)


def stacks_of(instances: Sequence[Instance]) -> list[Stack]:
    """The volumes of one series, in the order of their first frames."""
    slices = [Slice(one, frame) for one in instances for frame in one.frames]
    stacks = []
    for group in _alike(slices):
        for told, part in _told_apart(group):
            stacks.append(_stack(part, told))
    return stacks


def _alike(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices of one size, direction and pixel size."""
    groups: list[list[Slice]] = []
    for one in slices:
        for group in groups:
            if _is_alike(one, group[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _is_alike(a: Slice, b: Slice) -> bool:
    if a.instance.shape != b.instance.shape or a.instance.samples != b.instance.samples:
        return False
    if a.instance.patient_key != b.instance.patient_key:  # a UID that was given twice
        return False
    pairs = (
        (a.frame.orientation, b.frame.orientation, SAME_DIRECTION),
        (a.frame.spacing_mm, b.frame.spacing_mm, SAME_DIRECTION),
    )
    for one, other, tolerance in pairs:
        if (one is None) != (other is None):
            return False
        if one and other and max(abs(p - q) for p, q in zip(one, other, strict=True)) > tolerance:
            return False
    return True


def normal_of(frame: Frame) -> NDArray[np.float64]:
    """The direction across a frame, in LPS."""
    assert frame.orientation is not None
    normal: NDArray[np.float64] = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal


def _heights_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """How far along the first slice's normal each slice lies."""
    normal = normal_of(slices[0].frame)
    return np.array([np.dot(normal, s.frame.position_mm or (0, 0, 0)) for s in slices])


def _doubled(slices: Sequence[Slice]) -> int:
    """How many slices lie where another does."""
    heights = np.sort(_heights_mm(slices))
    return int((np.diff(heights) < SAME_POSITION_MM).sum())


def _told_apart(slices: list[Slice]) -> list[tuple[str, list[Slice]]]:
    """Volumes that lie in one place, by what tells them apart; one alone where nothing has to."""
    first = slices[0].frame
    if first.position_mm is None or first.orientation is None:
        files: dict[Path, list[Slice]] = defaultdict(list)
        for one in slices:
            files[one.instance.path].append(one)
        return [("", part) for part in files.values()]
    doubled = _doubled(slices)
    if not doubled:
        return [("", slices)]
    for name in TOLD_APART_BY:
        parts: dict[str, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[one.frame.told_by.get(name, "")].append(one)
        if len(parts) < 2 or "" in parts:
            continue
        sizes = [len(part) - _doubled(part) for part in parts.values()]  # in places
        if min(sizes) < (1 - LOST) * max(sizes) and name != "StackID":
            continue  # volumes of a series are of one size, but for slices that were lost
        if min(sizes) == 1 or sum(_doubled(part) for part in parts.values()) >= doubled:
            continue
        found = []
        for value, part in sorted(parts.items(), key=lambda item: _in_order(item[0])):
            for more, inner in _told_apart(part):
                found.append((" ".join(filter(None, (f"{name} {value}", more))), inner))
        return found
    return [("", slices)]


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return 0.0, value


def _stack(slices: list[Slice], told_by: str) -> Stack:
    first = slices[0].frame
    if first.position_mm is None or first.orientation is None:
        wrong = None if len(slices) == 1 else f"holds {len(slices)} frames {NOT_PLACED}"
        return Stack(tuple(slices), _flat_affine(first), told_by, wrong=wrong)
    if first.spacing_mm is None or min(first.spacing_mm) <= 0:
        return Stack(tuple(slices), None, told_by, wrong="states no size of its pixels")
    if normal_of(first) @ normal_of(first) < 0.5:
        return Stack(tuple(slices), None, told_by, wrong="has directions that span no plane")
    heights = _heights_mm(slices)
    order = np.argsort(heights, kind="stable")
    sorted_slices, heights = [slices[i] for i in order], heights[order]
    again = np.flatnonzero(np.diff(heights) < SAME_POSITION_MM) + 1
    if len(again):
        return _with_doubles(sorted_slices, heights, set(again.tolist()), told_by)
    if len(slices) == 1:
        return Stack((slices[0],), _affine(sorted_slices, 1), told_by)
    return _evenly(sorted_slices, heights, told_by)


def _flat_affine(frame: Frame) -> NDArray[np.float64]:
    row_mm, column_mm = frame.spacing_mm or (1.0, 1.0)
    return np.diag([column_mm, row_mm, 1.0, 1.0])


def _with_doubles(
    slices: list[Slice], heights: NDArray[np.float64], again: set[int], told_by: str
) -> Stack:
    """A stack without slices that lie where another does, if they hold the same."""
    for index in sorted(again):
        if not hold_the_same(slices[index - 1], slices[index]):
            wrong = (
                f"holds different slices in one place, at {_named(heights, sorted(again))} mm "
                "along its normal, and no attribute tells volumes apart"
            )
            return Stack(tuple(slices), None, told_by, wrong=wrong)
    kept = [one for index, one in enumerate(slices) if index not in again]
    what = f"holds slices twice, at {_named(heights, sorted(again))} mm along its normal; one of "
    oddity = Oddity("doubled_slices", what + "each is taken.", "Export the series again.")
    stack = _stack(kept, told_by)
    return replace(stack, oddities=(oddity, *stack.oddities))


def _named(heights: NDArray[np.floating[Any]], indices: Sequence[int]) -> str:
    shown = ", ".join(f"{heights[i]:.2f}" for i in indices[:SHOWN])
    return shown + (f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else "")


def _evenly(slices: list[Slice], heights: NDArray[np.float64], told_by: str) -> Stack:
    """A stack of slices at equal distances, some of which may be missing."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if (gaps < usual * (1 - UNEVEN) - UNEVEN_MM).any():  # half of them may be gaps themselves
        usual = float(gaps.min())
    steps = np.rint(gaps / usual).astype(int)
    uneven = abs(gaps - steps * usual) > UNEVEN * usual + UNEVEN_MM
    count = int(steps.sum()) + 1
    if uneven.any() or count - len(slices) > MOST_GAPS * count:
        wrong = (
            f"has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart (the first change at "
            f"{heights[1 + int(np.argmax(abs(gaps - gaps[0]) > UNEVEN * usual))]:.2f} mm along its "
            "normal): variable spacing, in which a voxel has no one size"
        )
        return Stack(tuple(slices), None, told_by, wrong=wrong)
    places = np.concatenate([[0], np.cumsum(steps)])
    affine = _affine(slices, count)
    positions = np.array([s.frame.position_mm for s in slices])
    expected = positions[0] + places[:, None] * (LPS_TO_RAS @ affine)[:3, 2]
    off_mm = float(np.linalg.norm(positions - expected, axis=1).max())
    if off_mm > max(OFF_LINE_MM, UNEVEN * usual + UNEVEN_MM):
        wrong = f"has slices that do not lie in a line (one is {off_mm:.3g} mm beside it)"
        return Stack(tuple(slices), None, told_by, wrong=wrong)
    filled: list[Slice | None] = [None] * count
    for place, one in zip(places, slices, strict=True):
        filled[place] = one
    missing = [index for index, one in enumerate(filled) if one is None]
    return Stack(tuple(filled), affine, told_by, _missing(heights[0], usual, missing))


def _missing(first_mm: float, step_mm: float, missing: list[int]) -> tuple[Oddity, ...]:
    if not missing:
        return ()
    at = _named(first_mm + step_mm * np.arange(missing[-1] + 1), missing)
    what = (
        f"misses {len(missing)} {'slice' if len(missing) == 1 else 'slices'}, at {at} mm along its "
        "normal; what lies between is interpolated, and DICOM written from it leaves it out."
    )
    return (Oddity("missing_slices", what, "Export the series again."),)


def _affine(slices: Sequence[Slice], count: int) -> NDArray[np.float64]:
    """From file indices (column, row, slice) to RAS mm; a tilted gantry's shear is kept."""
    frame = slices[0].frame
    assert frame.orientation is not None and frame.position_mm is not None
    row_mm, column_mm = frame.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = np.array(frame.orientation[:3]) * column_mm
    affine[:3, 1] = np.array(frame.orientation[3:]) * row_mm
    affine[:3, 3] = frame.position_mm
    if count > 1:
        last = np.array(slices[-1].frame.position_mm)
        affine[:3, 2] = (last - affine[:3, 3]) / (count - 1)
    else:
        affine[:3, 2] = normal_of(frame)
    ras: NDArray[np.float64] = LPS_TO_RAS @ affine
    return ras
