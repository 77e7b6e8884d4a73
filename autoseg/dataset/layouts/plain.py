"""Two folders with equal names: `images/` with `labels/`, or with `instances/`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset, LayoutName
from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.layouts.description import declared_channels, declared_labels
from autoseg.dataset.layouts.folder_files import unknown_files
from autoseg.dataset.layouts.naming import (
    channels_by_case,
    components_of,
    first_of_each_name,
    image_files,
    image_name,
    label_name,
)
from autoseg.dataset.layouts.pairing import NearPair, near_pairs, near_problems, without_its_number
from autoseg.dataset.layouts.patients import stated_patients, with_patients
from autoseg.dataset.layouts.regions import region_problems
from autoseg.dataset.layouts.tidying import case_count_problems, tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS, count_channels

Images = dict[str, tuple[Path, ...]]


def is_plain(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "labels").is_dir()


def is_instances(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "instances").is_dir()


def read_plain(root: Path, problems: list[Problem]) -> Dataset:
    """Channels and labels are what the files hold, unless a `dataset.json` names them."""
    description = _description(root, problems)
    labels = None
    if "labels" in description:
        labels = declared_labels(description, root / "dataset.json")
        problems += region_problems(labels, root / "dataset.json")
    dataset = _read_pairs(root, "labels", labels, description, problems)
    return _with_objects(dataset, problems) if is_instances(root) else dataset


def read_instances(root: Path, problems: list[Problem]) -> Dataset:
    """Each file of `instances/` numbers the objects of its image."""
    description = _description(root, problems)
    return _read_pairs(root, "instances", INSTANCE_SCHEME, description, problems)


def _with_objects(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """Cases with the files of `instances/`; all classes are things, unless some are declared.

    Raises AutosegError where no classes are declared.
    """
    labels, folder = dataset.labels, dataset.root / "instances"
    if labels is None or labels.regions:
        raise AutosegError(
            f"{dataset.root}: instances/ numbers the objects of labels/. Declare the classes in "
            'dataset.json, one value each: {"labels": {"background": 0, "nucleus": 1}}.'
        )
    files = {label_name(path): path for path in image_files(folder)}
    lonely = {case.case_id: case.files()[0] for case in dataset.cases if case.case_id not in files}
    problems += _without_twins(lonely, f"there are no numbered objects of this name in {folder}.")
    cases = (replace(c, objects=files[c.case_id]) for c in dataset.cases if c.case_id in files)
    things = labels.things or labels.names[1:]
    return replace(dataset, labels=labels.model_copy(update={"things": things}), cases=tuple(cases))


def _description(root: Path, problems: list[Problem]) -> dict[str, Any]:
    path = root / "dataset.json"
    return tidy_description(path, problems) if path.is_file() else {}


def _read_pairs(
    root: Path,
    label_folder: str,
    labels: LabelScheme | None,
    description: Mapping[str, Any],
    problems: list[Problem],
) -> Dataset:
    images, label_files = _named_files(root, label_folder, problems)
    paired = {case_id: images[case_id] for case_id in sorted(images.keys() & label_files.keys())}
    path = root / "dataset.json"
    problems += case_count_problems(description, path, len(images))
    layout: LayoutName = "instances" if label_folder == "instances" else "plain"
    if not paired:
        return Dataset(root, layout, (), labels, ())
    alike = _with_equal_channels(paired, problems)
    counts = _channel_counts(paired)
    dataset = Dataset(
        root=root,
        layout=layout,
        channel_names=_channel_names(description, path, sum(counts)),
        labels=labels,
        cases=tuple(
            Case(case_id, _sources(paths, counts), label_files[case_id], patient_id=case_id)
            for case_id, paths in alike.items()
        ),
    )
    return with_patients(dataset, stated_patients(description, path, problems), problems)


def _named_files(
    root: Path, label_folder: str, problems: list[Problem]
) -> tuple[Images, dict[str, Path]]:
    """Images and labels by case; those without the other are named, and files of other kinds."""
    label_files = first_of_each_name(
        image_files(root / label_folder), label_name, lambda file: file, problems
    )
    files = first_of_each_name(
        image_files(root / "images"), image_name, lambda file: file, problems
    )
    if not files:
        raise AutosegError(f"{root / 'images'}: no images here. Known: {', '.join(ENDINGS)}.")
    near = _near(files, label_files)
    problems += near_problems(near)
    images = _images_by_case(files, {*label_files, *(pair.case_id for pair in near)})
    first_files = {case_id: paths[0] for case_id, paths in images.items()}
    known = {label_name(pair.file) for pair in near} | {pair.case_id for pair in near}
    for one, other, what in (
        (first_files, label_files, "there is no label of this name"),
        (label_files, first_files, "there is no image of this name"),
    ):
        lonely = {n: file for n, file in one.items() if n not in other and n not in known}
        problems += _without_twins(lonely, f"{what} in {root}.")
    problems += [*unknown_files(root / "images"), *unknown_files(root / label_folder)]
    return images, label_files


def _near(files: Mapping[str, Path], label_files: Mapping[str, Path]) -> list[NearPair]:
    """Labels whose names are nearly those of images, or of what channel files have in common."""
    groups, _ = channels_by_case(files.values())
    apart = without_its_number(groups, label_files)
    without = {n: f for n, f in label_files.items() if n not in files and n not in groups}
    # Labels of a case called `a` leave none of its channel files alone.
    open_files = {
        name
        for name in files
        if name not in label_files and not (name[:-5] in groups and name[:-5] in label_files)
    }
    near = near_pairs(open_files, without)
    taken = {pair.file for pair in near}
    without = {name: file for name, file in without.items() if file not in taken}
    cases = {case_id for case_id in groups if case_id not in label_files}
    return [*apart, *near, *near_pairs(cases - {pair.case_id for pair in apart}, without)]


def _with_equal_channels(paired: Images, problems: list[Problem]) -> Images:
    """The cases whose channel files are called as the first case's; the others are named."""
    first_id, first = next(iter(paired.items()))
    expected = _suffixes(first_id, first)
    alike = {}
    for case_id, paths in paired.items():
        found = _suffixes(case_id, paths)
        if found == expected:
            alike[case_id] = paths
            continue
        what = f"has the channel files {found}, but {first_id} has {expected}."
        fix = "Give every scan the same channels."
        problems.append(
            Problem(kind="channel_count", case_id=case_id, file=None, what=what, fix=fix)
        )
    return alike


def _sources(paths: tuple[Path, ...], counts: list[int]) -> tuple[ChannelSource, ...]:
    return tuple(
        source
        for path, count in zip(paths, counts, strict=True)
        for source in components_of(path, count)
    )


def _suffixes(case_id: str, paths: tuple[Path, ...]) -> str:
    """What a case's channel files are called after its name, such as `_0000, _0001`."""
    return ", ".join(image_name(path).removeprefix(case_id) or "one file" for path in paths)


def _channel_counts(paired: Images) -> list[int]:
    """Channels in each file of the first case that can be read; inspection names the others."""
    for paths in paired.values():
        try:
            return [count_channels(path) for path in paths]
        except AutosegError:
            continue
    return [1] * len(next(iter(paired.values())))


def _images_by_case(files: Mapping[str, Path], labelled: set[str]) -> Images:
    groups, others = channels_by_case(files.values())
    images: Images = {image_name(path): (path,) for path in others}
    for case_id, channels in groups.items():
        if case_id in labelled:
            images[case_id] = tuple(channels[index] for index in sorted(channels))
        else:  # four digits that number scans, not channels
            images |= {image_name(path): (path,) for path in channels.values()}
    return images


def _channel_names(description: Mapping[str, Any], path: Path, count: int) -> tuple[str, ...]:
    if "channel_names" in description or "modality" in description:
        names = declared_channels(dict(description), path)
        if len(names) != count:
            raise AutosegError(f"{path}: declares {len(names)} channels, but scans have {count}.")
        return names
    return tuple(f"channel_{index}" for index in range(count))


def _without_twins(files: Mapping[str, Path], what: str) -> list[Problem]:
    return [
        Problem(
            kind="missing_file",
            case_id=case_id,
            file=str(files[case_id]),
            what=what,
            fix="Add it, or remove this file.",
        )
        for case_id in sorted(files)
    ]
