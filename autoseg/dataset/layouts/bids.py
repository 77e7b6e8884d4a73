"""BIDS: scans of subjects and sessions, labels among the derivatives (BIDS 1.10)."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.folder_files import listed
from autoseg.dataset.layouts.naming import stem
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.nifti import NIFTI

ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
LABEL_SUFFIXES = ("dseg", "mask")
DATA_TYPES = ("anat", "func", "dwi", "perf", "pet", "fmap", "micr", "ct")
# What a scan's channels differ in, and so what its case's name leaves out.
NOT_OF_A_CASE = {"desc", "space", "label", "res", "den", "atlas", "seg", "acq", "rec", "ce", "mod"}


def is_bids(root: Path) -> bool:
    """Whether subjects have folders of BIDS's data types."""
    if not root.is_dir():
        return False
    subjects = (path for path in root.glob("sub-*") if path.is_dir())
    return any(any(_scans(subject)) for subject in subjects)


def entities_of(path: Path) -> tuple[dict[str, str], str]:
    """The entities of a file's name, in order, and its suffix: `sub-1_ses-2_T1w` has two."""
    *pairs, suffix = stem(path).split("_")
    found = (ENTITY.fullmatch(pair) for pair in pairs)
    return {match[1]: match[2] for match in found if match}, suffix


def read_bids(root: Path, problems: list[Problem]) -> Dataset:
    """One case for each subject and session; its suffixes, such as T1w and FLAIR, are channels.

    Channels are the suffixes that every labelled case has. Labels are discrete segmentations, or
    masks, of any derivative; several derivatives that label one case are ambiguous. Raises
    AutosegError when labelled cases have no suffix in common.
    """
    scans, labels = _found(root), _labels(root)
    cases_with_both = [case_id for case_id in sorted(scans) if case_id in labels]
    channels = _common(root, [scans[case_id] for case_id in cases_with_both or sorted(scans)])
    problems += _extra_labels(labels, scans)
    cases, tests = list[Case](), list[Case]()
    for case_id in sorted(scans):
        missing = [name for name in channels if name not in scans[case_id]]
        if missing:
            problems.append(_without(case_id, missing))
            continue
        label = labels[case_id][0] if case_id in labels else None
        sources = tuple(ChannelSource(scans[case_id][name]) for name in channels)
        case = Case(case_id, sources, label, case_id.split("_")[0])
        (cases if label else tests).append(case)
    return Dataset(
        root=root,
        layout="bids",
        channel_names=channels,
        labels=_scheme(root, [case.label for case in cases if case.label]),
        cases=tuple(cases),
        test_cases=tuple(tests),
    )


def bids_scans(
    root: Path, channel_names: Sequence[str], channel_count: int, problems: list[str]
) -> list[Case]:
    """Every subject and session as a scan to segment, by the suffixes that a model's channels are
    called. One that holds a single suffix serves any model of one channel."""
    cases = []
    for case_id, scans in sorted(_found(root).items()):
        names = channel_names if all(name in scans for name in channel_names) else ()
        names = names or (tuple(scans) if len(scans) == channel_count == 1 else ())
        if not names:
            wanted = ", ".join(channel_names) or f"{channel_count} channels"
            problems.append(
                f"{case_id}: has {', '.join(sorted(scans))}, but the model needs {wanted}. Add "
                "what is missing, or give its files, named <case>_0000 and so on."
            )
            continue
        sources = tuple(ChannelSource(scans[name]) for name in names)
        cases.append(Case(case_id, sources, None, case_id.split("_")[0]))
    return cases


def _scans(subject: Path) -> Iterator[Path]:
    """The images of a subject, of all sessions."""
    for folder in (subject, *sorted(subject.glob("ses-*"))):
        for kind in DATA_TYPES:
            yield from sorted(
                p for p in (folder / kind).glob("sub-*") if p.name.endswith(NIFTI.endings)
            )


def _case_of(path: Path) -> str:
    """What a file is of: its subject and session, run and so on, but not what it shows."""
    entities, _ = entities_of(path)
    return "_".join(f"{k}-{v}" for k, v in entities.items() if k not in NOT_OF_A_CASE)


def channel_of(path: Path) -> str:
    """What a file shows: its suffix, and the entities that set it apart from others of it."""
    entities, suffix = entities_of(path)
    parts = [f"{k}-{v}" for k, v in entities.items() if k in ("acq", "rec", "ce", "mod")]
    return "_".join([*parts, suffix])


def _found(root: Path) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for subject in sorted(p for p in root.glob("sub-*") if p.is_dir()):
        for path in _scans(subject):
            if entities_of(path)[1] not in LABEL_SUFFIXES:
                found[_case_of(path)][channel_of(path)] = path
    return found


def _labels(root: Path) -> dict[str, list[Path]]:
    """Label maps by case, discrete segmentations before masks."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((root / "derivatives").rglob("sub-*")):
        if path.name.endswith(NIFTI.endings) and entities_of(path)[1] in LABEL_SUFFIXES:
            found[_case_of(path)].append(path)
    for paths in found.values():
        paths.sort(key=lambda path: LABEL_SUFFIXES.index(entities_of(path)[1]))
    return found


def _common(root: Path, scans: list[dict[str, Path]]) -> tuple[str, ...]:
    names = [name for name in (scans[0] if scans else ()) if all(name in one for one in scans)]
    if scans and not names:
        every = listed(sorted({name for one in scans for name in one}))
        raise AutosegError(f"{root}: its cases have no suffix in common ({every}).")
    return tuple(sorted(names))


def _extra_labels(
    labels: Mapping[str, list[Path]], scans: Mapping[str, dict[str, Path]]
) -> Iterator[Problem]:
    for case_id, paths in labels.items():
        if case_id not in scans:
            what, kind = "there is no scan of this subject and session.", "unused_file"
            fix = "Add it, or remove this file."
            yield Problem(kind=kind, case_id=case_id, file=str(paths[0]), what=what, fix=fix)
            continue
        for other in paths[1:]:
            same = entities_of(other)[1] == entities_of(paths[0])[1]
            what = f"is a second label beside {paths[0].name}, and is not used."
            kind = "naming" if same else "unused_file"
            fix = "Keep the derivatives that are to be learned."
            yield Problem(kind=kind, case_id=case_id, file=str(other), what=what, fix=fix)


def _without(case_id: str, missing: list[str]) -> Problem:
    what = f"lacks {', '.join(missing)}, which the others have; it is left out."
    fix = "Add it, or remove the case."
    return Problem(kind="left_out", case_id=case_id, file=None, what=what, fix=fix)


def _scheme(root: Path, labels: list[Path]) -> LabelScheme | None:
    """Labels that a table beside them, or of all, names: columns index and name.

    None where there is none: then every value found is a class. Masks have the classes 0 and 1.
    """
    for path in labels:
        if entities_of(path)[1] == "mask":
            entities, _ = entities_of(path)
            name = entities.get("label") or entities.get("desc") or "mask"
            return LabelScheme(values=(0, 1), names=("background", name))
        # A table beside a label is its own; one in a folder above is of all that lie below it.
        above = [f for f in list(path.parents)[1:] if f.is_relative_to(root)]
        tables = [
            path.with_name(f"{stem(path)}.tsv"),
            *(t for f in above for t in f.glob("*dseg.tsv")),
        ]
        table = next((file for file in tables if file.is_file()), None)
        if table is not None:
            return _read_table(table)
    return None


def _read_table(path: Path) -> LabelScheme:
    """The label scheme of a `_dseg.tsv`. Raises AutosegError where it lacks index or name."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        named = {int(row["index"]): str(row["name"]) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise AutosegError(
            f"{path}: must have the columns index (whole numbers) and name, parted by tabs."
        ) from None
    named = {0: "background"} | named
    values = tuple(sorted(named))
    return LabelScheme(values=values, names=tuple(named[value] for value in values))
