"""Two folders with equal names: `images/` with `labels/`, or with `instances/`."""

from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.layouts.description import declared_channels, declared_labels, read_description
from autoseg.dataset.layouts.naming import components_of, group_channels, image_files, stem
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS, count_channels


def is_plain(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "labels").is_dir()


def is_instances(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "instances").is_dir()


def read_plain(root: Path, problems: list[Problem]) -> Dataset:
    """Channels and labels are what the files hold, unless a `dataset.json` names them."""
    description = root / "dataset.json"
    labels = None
    if description.is_file():
        labels = declared_labels(read_description(description), description)
    return _read_pairs(root, "labels", labels, problems)


def read_instances(root: Path, problems: list[Problem]) -> Dataset:
    """Each file of `instances/` numbers the objects of its image."""
    return _read_pairs(root, "instances", INSTANCE_SCHEME, problems)


def _read_pairs(
    root: Path, label_folder: str, labels: LabelScheme | None, problems: list[Problem]
) -> Dataset:
    label_files = {stem(path): path for path in image_files(root / label_folder)}
    _name_twins(root / "images", problems)
    _name_twins(root / label_folder, problems)
    images = _images_by_case(root / "images", label_files)
    if not images:
        raise AutosegError(f"{root / 'images'}: no images here. Known: {', '.join(ENDINGS)}.")
    first_files = {case_id: paths[0] for case_id, paths in images.items()}
    there = f"of this name in {root}."
    problems += _without_twins(first_files, label_files, f"there is no label {there}")
    problems += _without_twins(label_files, first_files, f"there is no image {there}")
    paired = {case_id: images[case_id] for case_id in sorted(images.keys() & label_files.keys())}
    if not paired:
        return Dataset(root, "plain", (), labels, ())
    alike = _with_equal_channels(paired, problems)
    counts = _channel_counts(paired)
    return Dataset(
        root=root,
        layout="instances" if label_folder == "instances" else "plain",
        channel_names=_channel_names(root / "dataset.json", sum(counts)),
        labels=labels,
        cases=tuple(
            Case(case_id, _sources(paths, counts), label_files[case_id], patient_id=case_id)
            for case_id, paths in alike.items()
        ),
    )


def _with_equal_channels(
    paired: dict[str, tuple[Path, ...]], problems: list[Problem]
) -> dict[str, tuple[Path, ...]]:
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
    return ", ".join(stem(path).removeprefix(case_id) or "one file" for path in paths)


def _channel_counts(paired: dict[str, tuple[Path, ...]]) -> list[int]:
    """Channels in each file of the first case that can be read; inspection names the others."""
    for paths in paired.values():
        try:
            return [count_channels(path) for path in paths]
        except AutosegError:
            continue
    return [1] * len(next(iter(paired.values())))


def _name_twins(folder: Path, problems: list[Problem]) -> None:
    """Files of one name and two formats: which one is meant cannot be known."""
    seen: dict[str, Path] = {}
    for path in image_files(folder):
        if stem(path) in seen:
            problems.append(
                Problem(
                    kind="naming",
                    case_id=stem(path),
                    file=str(path),
                    what=f"has the same name as {seen[stem(path)].name}.",
                    fix="Remove or rename one of them.",
                )
            )
        seen.setdefault(stem(path), path)


def _images_by_case(folder: Path, label_files: dict[str, Path]) -> dict[str, tuple[Path, ...]]:
    groups, others = group_channels(image_files(folder))
    images: dict[str, tuple[Path, ...]] = {stem(path): (path,) for path in others}
    for case_id, channels in groups.items():
        if case_id in label_files:
            images[case_id] = tuple(channels[index] for index in sorted(channels))
        else:  # four digits that number scans, not channels
            images |= {stem(path): (path,) for path in channels.values()}
    return images


def _channel_names(description: Path, count: int) -> tuple[str, ...]:
    if description.is_file():
        content = read_description(description)
        if "channel_names" in content or "modality" in content:
            names = declared_channels(content, description)
            if len(names) != count:
                raise AutosegError(
                    f"{description}: declares {len(names)} channels, but scans have {count}."
                )
            return names
    return tuple(f"channel_{index}" for index in range(count))


def _without_twins(files: dict[str, Path], others: dict[str, Path], what: str) -> list[Problem]:
    return [
        Problem(
            kind="missing_file",
            case_id=case_id,
            file=str(files[case_id]),
            what=what,
            fix="Add it, or remove this file.",
        )
        for case_id in sorted(files.keys() - others.keys())
    ]
