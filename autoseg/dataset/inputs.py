"""Scans to segment: which there are among files and folders, and which files belong together."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.dicom_channels import descriptions, match_channels, of_modality
from autoseg.dataset.layouts.bids import bids_scans, is_bids
from autoseg.dataset.layouts.naming import group_channels, image_files, stem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.geometry import same_space
from autoseg.images.dicom.folders import holds_dicom
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.dicom.series import file_of
from autoseg.images.dicom.survey import (
    LeftOut,
    labels_left_out,
    not_dicom,
    scans_of_files,
    survey_dicom,
)
from autoseg.images.formats import ENDINGS, count_channels, is_image, read_raw

NUMBERED = re.compile(r".+_\d{4}")


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans in the order of their names, which cannot be read for want of a channel, what was
    assumed of the others, and which DICOM series are no scans."""

    cases: Sequence[Case]
    problems: Sequence[str]
    notes: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()


def list_scans(
    inputs: Sequence[Path],
    channel_count: int,
    trained_on: Collection[str] = (),
    series: Sequence[str] = (),
    channel_names: Sequence[str] = (),
) -> Scans:
    """The scans among files and folders: `<case>_0000` files are grouped, others stand alone.

    Numbered files that each hold all channels of the model are scans of their own, as they are in
    training. Those of one channel may as well be channels: they are scans if they lie in different
    places, or cases that the model was `trained_on` are numbered so. `series` are patterns of the
    descriptions of DICOM series, one for each channel; in BIDS folders files are channels by their
    suffixes. Without patterns a series has the modality that the only channel is named after, if it
    is. Raises AutosegError when there is none that has the channels that the model needs, or two
    would have the same name.
    """
    problems: list[str] = []
    notes: list[str] = []
    in_bids = [path for path in inputs if is_bids(path)]
    others = [path for path in inputs if path not in in_bids]
    files = _files_by_folder(others)
    scans, left_out = _dicom_scans(others, channel_count, series, channel_names, problems)
    for path in in_bids:
        scans += bids_scans(path, channel_names, channel_count, problems)
    numbered = any(NUMBERED.fullmatch(case_id) for case_id in trained_on)
    for folder_files in files.values():
        scans += _scans_of_folder(folder_files, channel_count, numbered, problems, notes)
    if not scans:
        raise_if_any(problems, "Wrong channels")
        places = ", ".join(str(path) for path in inputs)
        listed = [f for some in files.values() for f in some]
        raise AutosegError(f"{places}: {_no_image(listed, left_out)}")
    counts = Counter(_one_form(case.case_id) for case in scans)
    raise_if_any(
        [
            f"{case.case_id}: {case.files()[0]} would be written to the same mask as another scan "
            "of this name. Predict them into different folders."
            for case in scans
            if counts[_one_form(case.case_id)] > 1
        ],
        "Scans of equal names",
    )
    return Scans(sorted(scans, key=lambda case: case.case_id), problems, notes, left_out)


def _files_by_folder(inputs: Sequence[Path]) -> dict[Path, list[Path]]:
    """All files that are not DICOM, since channels of a scan lie together in a folder."""
    files: dict[Path, list[Path]] = {}
    for path in inputs:
        if not file_of(path).exists():
            raise AutosegError(f"{path}: there is no such file or folder.")
        if path.is_file() and not is_image(path):
            raise AutosegError(f"{path}: {_no_image([path])}")
        for file in path.iterdir() if path.is_dir() else [path]:
            beside = files.setdefault(file.parent.resolve(), [])
            if not is_dicom(file_of(file)) and all(file.name != o.name for o in beside):
                beside.append(file)
    return files


def _dicom_scans(
    inputs: Sequence[Path],
    channel_count: int,
    series: Sequence[str],
    channel_names: Sequence[str],
    problems: list[str],
) -> tuple[list[Case], Sequence[LeftOut]]:
    """The volumes that folders hold, at any depth, and that files are of.

    They are named by their series' UIDs: a file's or folder's name may be a person's.
    """
    folders = [path for path in inputs if path.is_dir() and holds_dicom(path)]
    survey = survey_dicom(folders)
    beside = [p for p in survey.others if not (p.parent in folders and is_image(p))]
    drawn = [labels_left_out(one) for one in survey.label_objects]
    left_out = [*survey.left_out, *drawn, *not_dicom(beside)]
    volumes = {volume.name: volume for volume in survey.volumes}
    single = [path for path in inputs if not path.is_dir() and is_dicom(file_of(path))]
    volumes |= {volume.name: volume for volume in scans_of_files(single)}
    if series:
        found = match_channels(list(volumes.values()), series)
        problems += found.problems
        return found.cases, [*left_out, *found.left_out]
    if volumes and channel_count > 1:
        problems.append(
            f"{len(volumes)} DICOM volumes were found, but the model needs {channel_count} "
            "channels. Say which series each is, by a pattern of its description: --series "
            "CHANNEL='*pattern*' for each. The descriptions here are "
            f"{descriptions(list(volumes.values()))}."
        )
        return [], left_out
    kept, others = of_modality(list(volumes.values()), channel_names)
    cases = [Case(v.name, (ChannelSource(v.path, None),), None, v.patient) for v in kept]
    return cases, [*left_out, *others]


def _one_form(name: str) -> str:
    """A name in one of the forms that Unicode has for it: some file systems know no other."""
    return unicodedata.normalize("NFC", name)


def _needed(channel_count: int) -> str:
    return "0000 alone" if channel_count == 1 else f"0000 to {channel_count - 1:04d}"


def _no_image(files: Sequence[Path], left_out: Sequence[LeftOut] = ()) -> str:
    """What to tell of files that are no images."""
    if left_out:
        reasons = "; ".join(": ".join(filter(None, (one.series, one.why))) for one in left_out)
        return f"no DICOM series here is a scan that can be segmented ({reasons})."
    counts = {folder: len(image_files(folder)) for folder in sorted(files)}
    if filled := [f"{folder} ({count} images)" for folder, count in counts.items() if count]:
        return f"no image here itself. Give the folder that holds the scans: {', '.join(filled)}."
    return f"no image that autoseg reads. Known endings: {', '.join(ENDINGS)}."


def _scans_of_folder(
    files: list[Path],
    channel_count: int,
    scans_are_numbered: bool,
    problems: list[str],
    notes: list[str],
) -> Iterator[Case]:
    groups, others = group_channels(files)
    years = [case_id for case_id, channels in groups.items() if 0 not in channels]
    others += [path for case_id in years for path in groups[case_id].values()]
    numbered = {case_id: groups[case_id] for case_id in groups if case_id not in years}
    for case_id, channels in numbered.items():
        paths = [channels[index] for index in sorted(channels)]
        complete = sorted(channels) == list(range(channel_count))
        held = 1 if complete and channel_count == 1 else _held(paths[0])
        if complete and (channel_count == 1 or held != channel_count):
            yield Case(case_id, tuple(ChannelSource(path) for path in paths), None, case_id)
        elif len(paths) == 1 and held == channel_count:
            yield Case(case_id, (ChannelSource(paths[0], None),), None, case_id)
        elif held == channel_count and (
            channel_count > 1 or scans_are_numbered or not _lie_alike(paths)
        ):
            others += paths
            notes.append(
                f"{case_id}_0000 and {len(paths) - 1} more: each holds all channels of the model, "
                "so they are taken as scans, and not as channels of one."
            )
        else:
            problem = (
                f"{case_id}: has channels {', '.join(f'{c:04d}' for c in sorted(channels))}, but "
                f"the model needs {_needed(channel_count)}. Add or remove files."
            )
            if len(paths) > channel_count:
                problem += " If they are scans, rename them, so that none ends in four digits."
            problems.append(problem)
    for path in others:
        yield Case(stem(path), (ChannelSource(path, None),), None, stem(path))


def _lie_alike(paths: Sequence[Path]) -> bool:
    """Whether the first of some files lie on one grid, as channels of one scan do."""
    try:
        first, second = (read_raw(path).grid for path in paths[:2])
    except AutosegError:
        return True
    return same_space(first, second)


def _held(path: Path) -> int | None:
    """How many channels a file holds, if it can be read; reading its scan says why not."""
    try:
        return count_channels(path)
    except AutosegError:
        return None
