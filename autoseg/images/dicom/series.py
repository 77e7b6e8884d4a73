"""Volumes of DICOM series: a file stands for the volume of its series that it begins.

A path is one file of a volume, in whose folder the others lie. Where a file holds several volumes,
or a series does, `FILE#2` is the second one of those that begin in it.
"""

import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.dicom.headers import (
    RTSTRUCT_CLASS,
    SEG_CLASSES,
    Instance,
    Slice,
    Unreadable,
    instances_in,
    refuse_unreadable,
)
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.dicom.pixels import read_slices, stored_type
from autoseg.images.dicom.stacks import Stack, stacks_of
from autoseg.images.raw import Oddity, RawImage, nifti_header_of, place

NUMBERED = re.compile(r"(.*)#(\d+)")
SERIES_KEPT = 64


def file_of(path: Path) -> Path:
    """The file that a path is about: itself, or what comes before `#2`."""
    match = NUMBERED.fullmatch(path.name)
    return path.with_name(match[1]) if match and not path.exists() else path


def recognise(path: Path) -> bool:
    """Whether a path is of a DICOM file, whatever its name."""
    return is_dicom(file_of(path))


def stack_of(path: Path) -> Stack:
    """The volume that a path stands for: that which begins in its file, else that it belongs to.

    Raises AutosegError where the file cannot be read or holds no volume.
    """
    file = file_of(path)
    number = 1 if file == path else int(path.name.rsplit("#", 1)[1])
    instance = refuse_unreadable(instance_of(file))
    if instance.sop_class in (*SEG_CLASSES, RTSTRUCT_CLASS):
        raise AutosegError(
            f"{path}: holds labels ({instance.modality}), not a scan. Give the series that they "
            "were drawn on."
        )
    if not instance.has_pixels:
        raise AutosegError(
            f"{path}: holds no image (its modality is {instance.modality or 'not stated'})."
        )
    stacks = series_stacks(file.parent, instance.series_uid)
    mine = [one for one in stacks if one.first.instance.path.name == file.name]
    mine = mine or [
        one for one in stacks if any(s.instance.path.name == file.name for s in one.present)
    ]
    if not 1 <= number <= len(mine):
        raise AutosegError(f"{path}: {file.name} holds {len(mine)} volumes, from #1 on.")
    return mine[number - 1]


def instance_of(file: Path) -> Instance | Unreadable:
    """What a file states. Raises AutosegError where it is no DICOM."""
    for one in instances_in(file.parent):
        if one.path.name == file.name:
            return one
    raise AutosegError(
        f"{file}: cannot be read as DICOM (it does not begin as such). The file may be damaged or "
        "of another kind; export it again from its source."
    )


def series_stacks(folder: Path, series_uid: str) -> tuple[Stack, ...]:
    """The volumes of a series whose files lie in a folder."""
    return _series_stacks(folder, folder.stat().st_mtime_ns, series_uid)


@lru_cache(SERIES_KEPT)
def _series_stacks(folder: Path, changed_ns: int, series_uid: str) -> tuple[Stack, ...]:
    members = [
        one
        for one in instances_in(folder)
        if isinstance(one, Instance) and one.series_uid == series_uid and one.has_pixels
    ]
    return tuple(stacks_of(members))


def address_of(stack: Stack, stacks: tuple[Stack, ...]) -> Path:
    """The path that stands for a volume among those of its series."""
    path = stack.first.instance.path
    mine = [one for one in stacks if one.first.instance.path == path]
    number = next(i for i, one in enumerate(mine, 1) if one is stack)
    return path if number == 1 else path.with_name(f"{path.name}#{number}")


def read_stack(path: Path, stack: Stack) -> RawImage:
    """The voxels of a volume [1, z, y, x]. Raises AutosegError where it cannot be used."""
    if stack.wrong is not None or stack.affine_ras_mm is None:
        raise AutosegError(f"{path}: {stack.wrong}. Resample or export the series anew.")
    slices = stack.present
    if any(one.instance.has_lut for one in slices):
        raise AutosegError(f"{path}: its values are in a look-up table, which is not read.")
    scales = [_scale(one, slices) for one in slices]
    has_one_scale = len(set(scales)) == 1
    kinds = [stored_type(one.instance) for one in slices]
    kind = np.result_type(*kinds) if has_one_scale else np.dtype(np.float32)
    if len(slices) < len(stack.slices) and kind.kind != "f":
        kind = np.result_type(kind, np.int8)  # interpolated values lie between
    values = np.empty((len(stack.slices), *slices[0].instance.shape), kind)
    there = [index for index, one in enumerate(stack.slices) if one is not None]
    for index, one, (slope, intercept) in zip(there, slices, scales, strict=True):
        read_slices([one], values[index : index + 1])
        if not has_one_scale:
            values[index] = values[index] * np.float64(slope) + intercept
    _interpolate(values, there)
    slope, intercept = scales[0] if has_one_scale else (1.0, 0.0)
    affine = stack.affine_ras_mm
    return RawImage(
        values[None],
        place(path, values[None], affine),
        nifti_header_of(affine),
        slope,
        intercept,
        is_placed=slices[0].frame.position_mm is not None,
        oddities=(*stack.oddities, *_photometric(slices)),
        sources=tuple(None if one is None else one.source for one in stack.slices),
    )


def _scale(one: Slice, slices: list[Slice]) -> tuple[float, float]:
    """Slope and intercept of a slice.

    They are those that every viewer shows. Where they differ from slice to slice and Philips states
    its own scale, values are divided by that too, since only then are slices in one unit.
    """
    frame = one.frame
    own = frame.philips_slope
    differ = len({(s.frame.slope, s.frame.intercept) for s in slices}) > 1
    if differ and own and frame.slope:
        return 1 / own, frame.intercept / (frame.slope * own)
    return frame.slope, frame.intercept


def _interpolate(values: NDArray[Any], there: list[int]) -> None:
    """Fill slices between those that are there, in place."""
    for below, above in pairwise(there):
        for index in range(below + 1, above):
            share = (index - below) / (above - below)
            mixed = (1 - share) * values[below].astype(np.float64) + share * values[above]
            values[index] = mixed if values.dtype.kind == "f" else np.rint(mixed)


def _photometric(slices: list[Slice]) -> tuple[Oddity, ...]:
    if slices[0].instance.photometric != "MONOCHROME1":
        return ()
    what = "shows low values bright (MONOCHROME1); values are taken as stored."
    return (Oddity("photometric", what, "Give the model scans of one kind."),)
