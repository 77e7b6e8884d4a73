"""A folder as it comes from an archive: its volumes and label objects, and what is left out."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.images.dicom.folders import kinds_of, walk
from autoseg.images.dicom.headers import (
    DIRECTORY_CLASS,
    RTSTRUCT_CLASS,
    SECONDARY_CAPTURE,
    SEG_CLASSES,
    Instance,
    Unreadable,
    instances_in,
)
from autoseg.images.dicom.series import address_of, series_stacks, stack_of
from autoseg.images.dicom.stacks import Stack

PSEUDONYM_BYTES = 6
COPY = "its series lies in another folder too"
PARTS = "parts of its series lie in several folders: put its files into one"
FEW_SLICES = 4  # fewer in each of several directions are a localiser


@dataclass(frozen=True, slots=True)
class DicomVolume:
    """A volume to segment. Its name and its patient's are made of UIDs, never of what a file says
    of a person."""

    name: str
    patient: str
    path: Path  # that stands for it
    stack: Stack

    @property
    def modality(self) -> str:
        return self.stack.first.instance.modality


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A series, or files, that are not segmented, and why.

    A series is found again by its number and UID, which tell nothing of a person.
    """

    series: str
    modality: str
    files: int
    why: str
    number: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class DicomSurvey:
    """All DICOM that a folder holds, at any depth."""

    volumes: tuple[DicomVolume, ...]
    label_objects: tuple[Instance, ...]  # SEG and RTSTRUCT
    left_out: tuple[LeftOut, ...]
    patients: dict[str, str]  # pseudonyms by series UID
    others: tuple[Path, ...]  # files that are not DICOM


def survey_dicom(roots: Iterable[Path]) -> DicomSurvey:
    """Everything that folders hold. No voxel is read, but of slices that lie where others do."""
    found: list[Instance] = []
    left_out: list[LeftOut] = []
    others: list[Path] = []
    for place in dict.fromkeys(place for root in roots for place in walk(root)):
        if place.why_not is not None:
            left_out.append(LeftOut("", "", 1, place.why_not))
            continue
        inside = instances_in(place.path) if place.may_be_dicom else ()
        found += [one for one in inside if isinstance(one, Instance)]
        damaged = [one for one in inside if isinstance(one, Unreadable)]
        left_out += [LeftOut(one.path.name, "", 1, one.why) for one in damaged]
        known = {one.path for one in inside}
        others += [file for file in place.files if file not in known]
    patients = _pseudonyms(found)
    by_series: dict[tuple[str, Path], list[Instance]] = defaultdict(list)
    for one in found:
        by_series[one.series_uid, one.path.parent].append(one)
    volumes: list[DicomVolume] = []
    labels: list[Instance] = []
    elsewhere = _elsewhere(by_series)
    for (series_uid, folder), members in by_series.items():
        why = _no_volume(members) or elsewhere.get((series_uid, folder))
        if members[0].sop_class in (*SEG_CLASSES, RTSTRUCT_CLASS):
            labels += members
        elif why is not None:
            left_out.append(_left_out(members, why))
        else:
            patient = patients[series_uid]
            volumes += _volumes(series_stacks(folder, series_uid), members, patient, left_out)
    return DicomSurvey(
        tuple(sorted(volumes, key=lambda v: v.name)),
        tuple(labels),
        tuple(sorted(left_out, key=lambda one: (one.why, one.series))),
        patients,
        tuple(others),
    )


def not_dicom(files: Sequence[Path]) -> list[LeftOut]:
    """A word of files that are of another kind, if there are some."""
    if not files:
        return []
    return [LeftOut("", "", len(files), f"not DICOM (by their endings: {kinds_of(files)})")]


def scans_of_files(files: Iterable[Path]) -> list[DicomVolume]:
    """The volumes that single files stand for, each once. Raises AutosegError where one is none."""
    volumes: dict[str, DicomVolume] = {}
    for path in files:
        stack = stack_of(path)
        first = stack.first.instance
        stacks = series_stacks(path.parent, first.series_uid)
        name = _volume_name(stack, stacks)
        patient = pseudonym("patient", first.study_uid)
        volumes[name] = DicomVolume(name, patient, address_of(stack, stacks), stack)
    return list(volumes.values())


def _volume_name(stack: Stack, stacks: tuple[Stack, ...]) -> str:
    """A volume's name: of its series, and its number among those of the series."""
    first = stack.first.instance
    name = pseudonym(first.modality.lower() or "series", first.series_uid or first.sop_uid)
    if len(stacks) == 1:
        return name
    number = next(number for number, one in enumerate(stacks, 1) if one is stack)
    return f"{name}-{number:0{len(str(len(stacks)))}d}"


def pseudonym(prefix: str, *parts: str) -> str:
    """A name made of UIDs: equal for equal ones, and telling nothing of a person."""
    digest = hashlib.blake2b("|".join(parts).encode(), digest_size=PSEUDONYM_BYTES).hexdigest()
    return f"{prefix}-{digest}"


def _pseudonyms(instances: Iterable[Instance]) -> dict[str, str]:
    """Of each series, a name of its patient: of the least of the patient's study UIDs.

    The patient's own number is not hashed, since numbers are few enough to be tried.
    """
    studies: dict[str, set[str]] = defaultdict(set)
    for one in instances:
        studies[_person(one)].add(one.study_uid)
    names = {person: pseudonym("patient", min(uids)) for person, uids in studies.items()}
    return {one.series_uid: names[_person(one)] for one in instances}


def _person(one: Instance) -> str:
    stated = one.patient_key.strip("|")
    return one.patient_key if stated else one.study_uid


def _no_volume(members: list[Instance]) -> str | None:
    """Why a series holds none, by what kind of object it is."""
    first = members[0]
    if first.sop_class == DIRECTORY_CLASS:
        return "a directory of the other files"
    if (first.sop_class + ".").startswith(SECONDARY_CAPTURE + "."):
        return "a secondary capture: a picture of a screen, not a scan"
    if not any(one.has_pixels for one in members):
        return f"holds no image ({first.modality or 'of no modality'})"
    if first.modality == "RTDOSE":
        return "a dose, not a scan"
    if all(one.samples != 1 or one.photometric == "PALETTE COLOR" for one in members):
        return "holds colours"
    if all("LOCALIZER" in one.image_type for one in members):
        return "a localiser"
    return None


def _left_out(members: list[Instance], why: str) -> LeftOut:
    first = members[0]
    uid = first.series_uid or first.sop_uid
    name = pseudonym(first.modality.lower() or "series", uid)
    return LeftOut(name, first.modality, len(members), why, first.series_number, uid)


def labels_left_out(one: Instance) -> LeftOut:
    """A SEG or RTSTRUCT among scans to segment."""
    return _left_out([one], f"labels that were drawn before ({one.modality}), not a scan")


def left_out_of(stack: Stack, why: str) -> LeftOut:
    """A volume that is not taken, and why."""
    files = {one.instance.path: one.instance for one in stack.present}
    return _left_out(list(files.values()), why)


def _volumes(
    stacks: tuple[Stack, ...], members: list[Instance], patient: str, left_out: list[LeftOut]
) -> Iterator[DicomVolume]:
    """The volumes of a series, as far as they can be used."""
    directions = {tuple(round(c, 2) for c in s.first.frame.orientation or ()) for s in stacks}
    if len(directions) > 1 and max(len(s.slices) for s in stacks) < FEW_SLICES:
        left_out.append(_left_out(members, "a localiser: a few slices in several directions"))
        return
    for stack in stacks:
        files = list({one.instance.path: one.instance for one in stack.present}.values())
        why = stack.wrong or _no_volume(files)  # scanners put localisers among a series' slices
        if why is not None:
            left_out.append(_left_out(files, why))
            continue
        yield DicomVolume(_volume_name(stack, stacks), patient, address_of(stack, stacks), stack)


def _elsewhere(by_series: dict[tuple[str, Path], list[Instance]]) -> dict[tuple[str, Path], str]:
    """Why a series is not read from a folder, where files of it lie in others too.

    Copies are read once. Parts are not read: each would pass for a whole scan, of too few slices or
    twice their distance.
    """
    held: dict[str, dict[tuple[str, Path], set[str]]] = defaultdict(dict)
    for place, members in by_series.items():
        series = place[0] or members[0].sop_uid  # those that state no series are not one
        held[series][place] = {one.sop_uid for one in members}
    reasons: dict[tuple[str, Path], str] = {}
    for uids in held.values():
        fullest = max(uids, key=lambda place: len(uids[place]))
        is_whole = all(some <= uids[fullest] for some in uids.values())
        others = [place for place in uids if place != fullest]
        reasons |= dict.fromkeys(others, COPY) if is_whole else dict.fromkeys(uids, PARTS)
    return reasons
