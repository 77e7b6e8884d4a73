"""Which mask is scored against which reference: those of one name, a single file of each."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.dataset.layouts.naming import group_channels, image_files, label_name
from autoseg.errors import raise_if_any
from autoseg.images.formats import ENDINGS, file_ending, format_of
from autoseg.images.pictures import PICTURES
from autoseg.inspection.stored_labels import LOSSY_ENDINGS

REFERENCE_FOLDERS = ("labelsTr", "labelsTs", "labels", "instances")
IMAGE_FOLDERS = ("imagesTr", "imagesTs", "images")


@dataclass(frozen=True, slots=True)
class Pairing:
    """A mask and a reference for each case, and what was left out in words."""

    pairs: dict[str, tuple[Path, Path]]
    references_without_mask: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """The masks of a folder by case, and what there was to say about the others."""

    by_case: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pair_masks(predictions: Path, references: Path) -> Pairing:
    """Pair two folders by name, or two files whatever they are called.

    Names that differ only in their Unicode form are one. Raises AutosegError, with all problems of
    both sides at once, for folders that hold no masks, two files of one name, and masks without a
    reference.
    """
    masks, truths = _find_masks(predictions), _find_masks(references)
    raise_if_any([*masks.problems, *truths.problems], "These cannot be compared")
    if predictions.is_file() and references.is_file():
        return Pairing(dict.fromkeys(masks.by_case, (predictions, references)))
    alone = [
        _without_reference(case_id, path, references, truths.by_case)
        for case_id, path in masks.by_case.items()
        if case_id not in truths.by_case
    ]
    raise_if_any(alone, "Masks without a reference")
    return Pairing(
        {case_id: (path, truths.by_case[case_id]) for case_id, path in masks.by_case.items()},
        tuple(sorted(truths.by_case.keys() - masks.by_case.keys())),
        (*masks.notes, *truths.notes),
    )


def _without_reference(case_id: str, mask: Path, references: Path, truths: dict[str, Path]) -> str:
    text = f"{mask}: there is no reference named {case_id} in {references}."
    scan = truths.get(f"{case_id}_0000")
    if scan is None:
        return text
    return f"{text} {scan.name} is named like a scan; give the folder of its masks."


def _find_masks(place: Path) -> _Found:
    found = _Found()
    if place.is_file():
        if file_ending(place) is None:
            known = ", ".join(ENDINGS)
            found.problems.append(f"{place}: no image of a known format ({known}). Give a mask.")
        found.by_case[label_name(place)] = place
    elif not place.is_dir():
        found.problems.append(f"{place}: there is no such file or folder. Give one with masks.")
    else:
        _list_folder(place, found)
    found.problems += [
        f"{path}: JPEG changes the values that it stores, so this is no mask. Save it as PNG."
        for path in found.by_case.values()
        if path.name.lower().endswith(LOSSY_ENDINGS)
    ]
    return found


def _list_folder(folder: Path, found: _Found) -> None:
    files = [path for path in image_files(folder) if path.is_file()]
    pictures = [path for path in files if format_of(path) is PICTURES]
    if len(pictures) < len(files) and pictures:
        files = [path for path in files if path not in pictures]
        found.notes.append(
            f"{folder}: {_counted(len(pictures), 'picture')} beside volumes left out, such as "
            f"{pictures[0].name}"
        )
    of_scans = _holds_scans(folder, files)
    if not files or of_scans:
        found.problems.append(of_scans or _without_masks(folder))
        return
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[label_name(path)].append(path)
    found.by_case.update({name: paths[0] for name, paths in by_name.items()})
    found.problems += [
        f"{', '.join(str(path) for path in paths)}: {_counted(len(paths), 'file')} of one case, "
        f"{name}. Remove or rename all but one."
        for name, paths in by_name.items()
        if len(paths) > 1
    ]


def _without_masks(folder: Path) -> str:
    """There are none here; where the folder is a dataset's, where they are."""
    beside = [folder / name for name in REFERENCE_FOLDERS if image_files(folder / name)]
    if beside:
        there = " or ".join(str(path) for path in beside)
        return f"{folder}: this is a dataset, whose masks are in {there}. Give that folder."
    if not any(folder.iterdir()):
        return f"{folder}: this folder is empty. Give one that holds masks."
    return f"{folder}: there are no masks here. Give a folder of NIfTI files, or of {_others()}."


def _holds_scans(folder: Path, files: list[Path]) -> str | None:
    """That a folder is of scans, as its name and its files' say; None where it is of masks."""
    channels, others = group_channels(files)
    beside = [folder.parent / name for name in REFERENCE_FOLDERS]
    labels = [path for path in beside if path.is_dir()]
    if folder.name not in IMAGE_FOLDERS or not labels or (others and channels):
        return None
    return f"{folder}: this folder is of scans; masks are in {labels[0]}. Give that folder."


def _others() -> str:
    return ", ".join(ending for ending in ENDINGS[1:] if ending not in LOSSY_ENDINGS)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
