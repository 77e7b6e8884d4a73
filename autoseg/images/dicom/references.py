"""What a SEG or RTSTRUCT is about: the series it was drawn on, and the numbers of its names."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.images.dicom.headers import Instance, instances_in, read_header
from autoseg.images.dicom.opening import is_dicom, open_dataset
from autoseg.images.dicom.series import series_stacks
from autoseg.images.dicom.stacks import Stack
from autoseg.images.raw import Oddity

DESCRIPTION = "dataset.json"
LEVELS = 4  # of folders above a file, in which its data set's description may lie


def stack_behind(instance: Instance) -> Stack | None:
    """The volume that a label object was drawn on: beside it, or in a folder beside its own.

    None where its series is not there. Of several volumes of a series the largest counts.
    """
    for uid in instance.referenced:
        folder = _folder_of(uid, instance.path.parent)
        if folder is not None:
            usable = [one for one in series_stacks(folder, uid) if one.affine_ras_mm is not None]
            if usable:
                return max(usable, key=lambda stack: len(stack.present))
    return None


def _folder_of(series_uid: str, start: Path) -> Path | None:
    """The folder that a series lies in; folders are known by their first file, or else by all.

    Others may be writing there: what is gone when its turn comes holds nothing.
    """
    if _holds(start, series_uid):
        return start
    nearby = [Path(folder) for folder, _, _ in os.walk(start.parent)]  # tells no error
    for folder in sorted(nearby):
        first = _first_dicom(folder)
        header = None if first is None else read_header(first)
        if isinstance(header, Instance) and header.series_uid == series_uid:
            return folder
    return next((folder for folder in sorted(nearby) if _holds(folder, series_uid)), None)


def _first_dicom(folder: Path) -> Path | None:
    try:
        return next((p for p in sorted(folder.iterdir()) if p.is_file() and is_dicom(p)), None)
    except OSError:
        return None


def _holds(folder: Path, series_uid: str) -> bool:
    try:
        found = instances_in(folder)
    except OSError:
        return False
    return any(
        isinstance(one, Instance) and one.series_uid == series_uid and one.has_pixels
        for one in found
    )


def files_behind(instance: Instance) -> tuple[Path, ...]:
    """The files that a label object's place and numbers depend on."""
    stack = stack_behind(instance)
    files = [] if stack is None else [one.instance.path for one in stack.present]
    described = _description_above(instance.path)
    return (*dict.fromkeys(files), *([described] if described else []))


def numbers_of(path: Path, own: Mapping[int, str]) -> tuple[dict[int, int], tuple[Oddity, ...]]:
    """The label value of each segment or contour set, which have numbers and names of their own.

    Where the data set's `dataset.json` declares labels, a name has its value there, and other names
    are left out; else values are the file's own numbers.
    """
    declared = declared_numbers(path)
    if declared is None:
        return {number: number for number in own}, ()
    values = {number: declared[name] for number, name in own.items() if name in declared}
    others = sorted({name for name in own.values() if name not in declared})
    if not others:
        return values, ()
    what = f"also holds {', '.join(others)}, which {DESCRIPTION} does not declare; left out."
    return values, (Oddity("unused_segment", what, "Declare them, if they are to be learned."),)


def declared_numbers(path: Path) -> dict[str, int] | None:
    """Values by name, as the nearest `dataset.json` above a file declares them."""
    file = _description_above(path)
    if file is None:
        return None
    try:
        labels = json.loads(file.read_text(encoding="utf-8")).get("labels")
    except (OSError, ValueError, AttributeError) as error:
        raise AutosegError(f"{file}: cannot be read ({error}).") from None
    if not isinstance(labels, dict) or not all(isinstance(v, int) for v in labels.values()):
        return None
    return labels


def _description_above(path: Path) -> Path | None:
    folders = list(path.resolve().parents)[:LEVELS]
    return next((f / DESCRIPTION for f in folders if (f / DESCRIPTION).is_file()), None)


def names_in(instance: Instance) -> dict[int, str]:
    """The segments or contour sets that a label object declares, by its own numbers."""
    tags = ["SegmentSequence", "StructureSetROISequence"]
    header = open_dataset(instance.path, stop_before_pixels=True, specific_tags=tags)
    segments = {int(s.SegmentNumber): str(s.SegmentLabel) for s in header.get(tags[0]) or ()}
    rois = {int(r.ROINumber): str(r.ROIName) for r in header.get(tags[1]) or ()}
    names = sorted({**segments, **rois}.items())
    return {number: name for number, name in names if number}  # 0 is the background


def refuse_unplaced(path: Path, referenced: Sequence[str]) -> AutosegError:
    """The error of contours whose series is not there."""
    return AutosegError(
        f"{path}: the series that its contours were drawn on is not beside it"
        f"{'' if referenced else ', and it names none'}. Put the series' folder beside its own."
    )
