"""COCO: 2D images, and JSON files of annotations that say what is drawn on each of them."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import MAX_CLASSES, LabelScheme
from autoseg.dataset.layouts.description import read_description
from autoseg.dataset.layouts.folder_files import listed
from autoseg.dataset.layouts.naming import components_of, image_name, is_file, listed_file
from autoseg.dataset.layouts.patients import stated_patients, with_patients
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.coco import (
    PARTS,
    Annotations,
    CocoImage,
    objects_beside,
    path_of_map,
    read_annotations,
)
from autoseg.images.formats import count_channels, file_ending

FOLDER = "annotations"
IMAGE_FOLDERS = ("", "images", "data")


def is_coco(root: Path) -> bool:
    """Whether files of annotations lie here, or in `annotations/`."""
    return root.is_dir() and bool(_annotation_files(root))


def read_coco(root: Path, problems: list[Problem]) -> Dataset:
    """Every image of every file is a case. Categories are classes, all of them things, and crowds
    count as not annotated.

    Raises AutosegError where a file cannot be used, or files have different categories.
    """
    files = {path: read_annotations(path) for path in _annotation_files(root)}
    labels = _scheme(root, files)
    cases = [
        Case(image_name(image), (ChannelSource(image),), label, patient_id=image_name(image))
        for path, annotations in files.items()
        for image, label in _labelled(root, path, annotations, problems)
    ]
    count = _channel_count(cases)
    dataset = Dataset(
        root=root,
        layout="coco",
        channel_names=tuple(f"channel_{index}" for index in range(count)),
        labels=labels,
        cases=tuple(_with_all_channels(case, count) for case in cases),
    )
    path = root / "dataset.json"
    description = read_description(path) if path.is_file() else {}
    return with_patients(dataset, stated_patients(description, path, problems), problems)


def _annotation_files(root: Path) -> list[Path]:
    """Of several the ones that are called instances: COCO puts captions and keypoints beside."""
    named = [path for folder in (root / FOLDER, root) for path in sorted(folder.glob("*.json"))]
    files = [path for path in named if path.is_file() and _has_all_parts(path)]
    return [path for path in files if path.name.startswith("instances")] or files


def _has_all_parts(path: Path) -> bool:
    """Whether a file speaks of images, categories and annotations, without reading all of it."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(f'"{part}"'.encode()) >= 0 for part in PARTS)


def _scheme(root: Path, files: Mapping[Path, Annotations]) -> LabelScheme:
    (first, annotations), *others = files.items()
    classes = annotations.classes
    for path, other in others:
        if other.classes != classes:
            raise AutosegError(
                f"{root}: {first.name} and {path.name} have different categories "
                f"({listed(classes)}; {listed(other.classes)}). Give both the same ids and names."
            )
    if not 0 < len(classes) < MAX_CLASSES:
        raise AutosegError(
            f"{first}: has {len(classes)} categories, where 1 to {MAX_CLASSES - 1} can be learned."
        )
    crowds = any(one.has_crowds for one in files.values())
    return LabelScheme(
        values=tuple(range(len(classes) + 1)),
        names=("background", *classes),
        ignore=annotations.crowd_value if crowds else None,
        things=classes,
    )


def _labelled(
    root: Path, path: Path, annotations: Annotations, problems: list[Problem]
) -> Iterator[tuple[Path, Path]]:
    """The files of images, and the paths of their label maps; what is wrong is told."""
    for odd in annotations.oddities:
        problems.append(_problem(odd.kind, path, odd.what, odd.fix))
    folders = list(_image_folders(root, path))
    missing = []
    for image in annotations.images:
        file = _image_file(folders, image)
        if file is None:
            missing.append(image.file_name)
        else:
            yield file, path_of_map(path, image.number, "classes")
    if missing:
        what = f"lists images that are not there ({len(missing)}): {listed(missing)}."
        fix = "Put them beside it, or into images/, or take them from its list."
        problems.append(_problem("missing_file", path, what, fix))


def _image_folders(root: Path, path: Path) -> Iterator[Path]:
    """Where images may be: beside their file, in the dataset's folder, or in one of the part of it
    that the file is of, such as train2017/ of instances_train2017.json."""
    part = path.stem.removeprefix("instances").strip("_")
    yield path.parent
    for name in IMAGE_FOLDERS:
        yield root / name
        if part:
            yield root / name / part


def _image_file(folders: Sequence[Path], image: CocoImage) -> Path | None:
    found = (listed_file(folder, image.file_name) for folder in folders)
    return next((file for file in found if file_ending(file) and is_file(file)), None)


def _channel_count(cases: Sequence[Case]) -> int:
    """Channels of the first image that can be read; inspection names the others."""
    for case in cases:
        try:
            return count_channels(case.files()[0])
        except AutosegError:
            continue
    return 1


def _with_all_channels(case: Case, count: int) -> Case:
    assert case.label is not None
    sources = components_of(case.files()[0], count)
    return Case(case.case_id, sources, case.label, case.patient_id, objects_beside(case.label))


def _problem(kind: str, path: Path, what: str, fix: str) -> Problem:
    return Problem(kind=kind, case_id=None, file=str(path), what=what, fix=fix)
