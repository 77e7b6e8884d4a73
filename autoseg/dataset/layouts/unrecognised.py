"""Folders that are nearly a dataset: what they lack, or where it lies."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset.layouts.naming import channels_by_case, image_files
from autoseg.errors import AutosegError
from autoseg.images.formats import count_channels, file_ending
from autoseg.images.volume import read_labels

LABELS_READ = 20  # to find their values; `check` finds what the others hold
MOST_VALUES = 64  # more are no classes, but most likely numbers of objects
FOLDERS_TRIED = 100
# Names of folders that are nearly those of a layout, in small letters.
MEANT = {
    "imagestr": {"images_tr", "imagetr", "imgstr"},
    "labelstr": {"labels_tr", "labeltr", "maskstr", "segmentationstr"},
    "images": {"image", "imgs", "img", "scans"},
    "labels": {"label", "masks", "mask", "segmentations", "segmentation", "annotations", "gt"},
}
NAMES = ("imagesTr", "labelsTr", "images", "labels")
PAIRS = (("imagesTr", "labelsTr"), ("images", "labels"))


def what_it_lacks(root: Path) -> str | None:
    """What a folder lacks to be a dataset, and how to add it; None where nothing points to one."""
    if not root.is_dir():
        return None
    there = {name for name in NAMES if (root / name).is_dir()}
    if {"imagesTr", "labelsTr"} <= there:
        return _without_description(root)
    described = (root / "dataset.json").is_file()
    for images, labels in PAIRS:
        if described and labels in there and images not in there:
            return _missing_folder(root, images, labels)
        if images in there and labels not in there:
            return _missing_folder(root, labels, images)
    renamed = [_nearly(root, images, labels) for images, labels in PAIRS]
    return next((hint for hint in renamed if hint), None)


def what_lies_near(root: Path, is_dataset: Callable[[Path], bool]) -> str | None:
    """Where the dataset is that a folder belongs to or holds; None where there is none."""
    if not root.is_dir():
        return None
    parent = root.resolve().parent
    if is_dataset(parent):
        return f"this is a part of a dataset. Give its folder, {parent}."
    if root.name in NAMES and (lacking := what_it_lacks(parent)):
        return f"this is a part of a dataset. Give its folder, {parent}, of which {lacking}"
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    datasets = [folder for folder in folders[:FOLDERS_TRIED] if is_dataset(folder)]
    nearly = [folder for folder in folders[:FOLDERS_TRIED] if what_it_lacks(folder)]
    if len(datasets) == 1:
        return f"the dataset is one folder deeper. Give {datasets[0]}."
    if datasets:
        names = ", ".join(folder.name for folder in datasets)
        return f"this folder holds several datasets: {names}. Give one of them."
    if len(nearly) == 1:
        return f"the dataset is one folder deeper, and {nearly[0]}: {what_it_lacks(nearly[0])}"
    if files := image_files(root):
        return (
            f"this folder holds {len(files)} images, but not what to learn from them. Put them "
            "into a folder images/, and their label maps, of equal names, into labels/ beside it; "
            "then give the folder that holds both. To segment them with a model, use `autoseg "
            "predict`."
        )
    return None


def _missing_folder(root: Path, missing: str, there: str) -> str:
    near = _called_nearly(root, missing)
    also = " (or instances/)" if missing == "labels" else ""
    if near:
        return f"{there}/ is here, but not {missing}/{also}. Rename {near}/ to {missing}/."
    kind = "images" if missing.startswith("images") else "label maps"
    return f"{there}/ is here, but not {missing}/{also}. Put its {kind} there, of equal names."


def _nearly(root: Path, images: str, labels: str) -> str | None:
    """What to rename where both folders are there, but one or both are called otherwise."""
    found = {
        name: name if (root / name).is_dir() else _called_nearly(root, name)
        for name in (images, labels)
    }
    wrong = {name: near for name, near in found.items() if near != name}
    if not wrong or None in found.values():
        return None
    renames = " and ".join(f"{near}/ to {name}/" for name, near in wrong.items())
    return f"its folders are called otherwise than expected. Rename {renames}."


def _called_nearly(root: Path, name: str) -> str | None:
    """The one folder whose name is nearly this one."""
    meant = {name.lower(), *MEANT[name.lower()]}
    near = [p.name for p in root.iterdir() if p.is_dir() and p.name.lower() in meant]
    return near[0] if len(near) == 1 else None


def _without_description(root: Path) -> str:
    if not image_files(root / "imagesTr"):
        return "dataset.json is missing, and imagesTr/ holds no images. Add both."
    description = json.dumps(_description(root), ensure_ascii=False)
    return (
        f"only dataset.json is missing. Save this as {root / 'dataset.json'}, with channels and "
        f"labels called as they are (a channel called CT is normalised as CT):\n{description}"
    )


def _description(root: Path) -> dict[str, Any]:
    """A `dataset.json` of what lies in imagesTr and labelsTr."""
    images = image_files(root / "imagesTr")
    endings = Counter(file_ending(path) or "" for path in images)
    groups, _ = channels_by_case(images)
    count = max((max(channels) + 1 for channels in groups.values()), default=1)
    if count == 1:
        count = _channels_in(images[0])
    values = _label_values(image_files(root / "labelsTr"))
    return {
        "channel_names": {str(index): f"channel_{index}" for index in range(count)},
        "labels": {"background": 0} | {f"label_{value}": value for value in values},
        "numTraining": len(groups) or len(images),
        "file_ending": endings.most_common(1)[0][0],
    }


def _channels_in(path: Path) -> int:
    try:
        return count_channels(path)
    except AutosegError:
        return 1


def _label_values(files: list[Path]) -> list[int]:
    """The values other than 0 in some of the label files; 1 where none can be read."""
    values: set[int] = set()
    for path in files[:: max(1, len(files) // LABELS_READ)]:
        try:
            values.update(int(value) for value in np.unique(read_labels(path).array))
        except AutosegError:
            continue
    return sorted(values - {0})[:MOST_VALUES] or [1]
