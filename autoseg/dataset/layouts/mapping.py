"""The `dataset` mapping of nnU-Net's description: cases whose files lie anywhere."""

from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.layouts.naming import components_of, composed, is_file, listed_file
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError, raise_if_any

Entry = tuple[list[str], str]  # images and label, as written

EXAMPLE = '{"case_1": {"images": ["a.nii.gz"], "label": "b.nii.gz"}}'


def mapped_cases(
    root: Path, mapping: Any, names: tuple[str, ...], problems: list[Problem]
) -> list[Case]:
    """Cases of the mapping, whose paths are relative to the dataset folder.

    Raises AutosegError that names every entry which is no list of files.
    """
    path = root / "dataset.json"
    if not isinstance(mapping, dict):
        raise AutosegError(
            f"{path}: dataset is {str(mapping)[:40]!r}, but must map cases to their files, such as "
            f"{EXAMPLE}. Remove the key where images lie in imagesTr."
        )
    mistakes, entries = [], dict[str, Entry]()
    for case_id, written in mapping.items():
        found = _entry(written)
        if found is None:
            mistakes.append(
                f"{path}: dataset entry {case_id!r} must have images (a list) and label, as paths "
                f"relative to the dataset folder, such as {EXAMPLE}."
            )
        else:
            entries[composed(case_id)] = found
    raise_if_any(mistakes, f"{path}: the dataset mapping cannot be used")
    cases = []
    for case_id, entry in sorted(entries.items()):
        case = _case(root, case_id, entry, names, problems)
        cases += [case] if case else []
    return cases


def listed_but_missing(case_id: str, path: Path) -> Problem:
    """The problem of a file that a list names, but that is not there."""
    return Problem(
        kind="missing_file",
        case_id=case_id,
        file=str(path),
        what="is listed, but does not exist.",
        fix="Add it, or remove it from the list.",
    )


def _entry(entry: Any) -> Entry | None:
    """Images and label of an entry; a single image may stand without its list."""
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
        return None
    images = entry.get("images")
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return None
    return images, entry["label"]


def _case(
    root: Path,
    case_id: str,
    entry: Entry,
    names: tuple[str, ...],
    problems: list[Problem],
) -> Case | None:
    images, label = entry
    together = len(images) == 1 and len(names) > 1
    if not together and len(images) != len(names):
        problems.append(
            Problem(
                kind="missing_file",
                case_id=case_id,
                file=None,
                what=f"lists {len(images)} images, but {len(names)} channels are declared.",
                fix="List one image for each channel.",
            )
        )
        return None
    files = [listed_file(root, name) for name in (*images, label)]
    missing = [file for file in files if not is_file(file)]
    problems += [listed_but_missing(case_id, file) for file in missing]
    if missing:
        return None
    sources = (
        components_of(files[0], len(names))
        if together
        else tuple(ChannelSource(file) for file in files[:-1])
    )
    return Case(case_id, sources, files[-1], patient_id=case_id)
