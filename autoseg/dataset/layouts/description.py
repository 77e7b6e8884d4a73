"""What a `dataset.json` declares: channels and labels, in nnU-Net's and the Decathlon's way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoseg.dataset.labels import MAX_CLASSES, MAX_LABEL_VALUE, LabelScheme, Region
from autoseg.dataset.layouts.json_files import read_written_json
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.dicom.codes import CodeTable, Structure
from autoseg.records import parse_record

IGNORE = "ignore"
THINGS = "things"  # classes whose objects count one by one
CODES = "label_codes"  # of classes in DICOM
CHANNEL_SERIES = "channel_series"  # patterns of descriptions of DICOM series
TOLERANCES = "tolerances_mm"  # of the normalised surface Dice


def read_description(path: Path) -> dict[str, Any]:
    """A `dataset.json`. Raises AutosegError when it is no JSON object, or says a thing twice."""
    content = read_written_json(path)
    if not isinstance(content, dict):
        raise AutosegError(f"{path}: must hold an object, with channel_names and labels in it.")
    return content


def declared_channels(description: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Channel names by number, of `channel_names` or the older `modality`.

    Raises AutosegError when they are missing or not numbered from 0.
    """
    key = "channel_names" if "channel_names" in description else "modality"
    channels = description.get(key)
    if not isinstance(channels, dict) or not channels:
        raise AutosegError(
            f'{path}: {_missing_or_other("channel_names", channels)}, for example {{"0": "CT"}}.'
        )
    if wrong := next((n for n in channels.values() if not isinstance(n, str | int)), None):
        raise AutosegError(
            f'{path}: {key} has {wrong!r} where the name of a channel is expected, such as "CT".'
        )
    expected = [str(index) for index in range(len(channels))]
    if sorted(channels) != sorted(expected):
        raise AutosegError(
            f"{path}: {key} has keys {', '.join(channels)}, expected {', '.join(expected)}."
        )
    return tuple(str(channels[index]) for index in expected)


def declared_labels(description: dict[str, Any], path: Path) -> LabelScheme:
    """The label scheme that `labels` declares; the order of its keys is that of regions.

    Raises AutosegError that lists every mistake.
    """
    labels = description.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise AutosegError(
            f"{path}: {_missing_or_other('labels', labels)}, for example "
            '{"background": 0, "tumour": 1}.'
        )
    problems: list[str] = []
    parsed = {str(name): _values(name, value, path, problems) for name, value in labels.items()}
    raise_if_any(problems, f"{path}: the labels cannot be used")
    shown = ", ".join(f"{name}={value}" for name, value in labels.items())
    ignore = parsed.pop(IGNORE, None)
    values = sorted({value for group in parsed.values() for value in group})
    mistakes = [f"{path}: {mistake}" for mistake in _mistakes(values, ignore, shown)]
    raise_if_any(mistakes, f"{path}: the labels cannot be used")
    foreground = {name: group for name, group in parsed.items() if set(group) != {0}}
    regions: tuple[Region, ...] = ()
    order: tuple[int, ...] = ()
    if any(len(group) > 1 for group in foreground.values()):
        regions = tuple(Region(name=name, values=group) for name, group in foreground.items())
        order = _region_order(description, regions, values, path)
    elif len(values) != len(parsed):
        raise AutosegError(f"{path}: two labels have the same value: {shown}.")
    things = declared_things(description, path)
    singles = {group[0]: name for name, group in parsed.items() if len(group) == 1}
    names = tuple(singles.get(value, f"label_{value}") for value in values)
    unknown = [name for name in things if name not in names[1:]]
    if unknown or (things and regions):
        told = f"{', '.join(unknown)} is none" if unknown else "regions may overlap, and are none"
        raise AutosegError(f"{path}: {THINGS} are classes other than the background; {told}.")
    return LabelScheme(
        values=tuple(values),
        names=names,
        regions=regions,
        region_order=order,
        ignore=ignore[0] if ignore else None,
        things=things,
        codes=declared_codes(description, path),
    )


def declared_things(description: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The names of classes whose objects count one by one, none where none are stated.

    Raises AutosegError when they are anything but a list of names.
    """
    stated = description.get(THINGS, [])
    if not isinstance(stated, list) or not all(isinstance(name, str) for name in stated):
        raise AutosegError(
            f"{path}: {THINGS} is {str(stated)[:60]}, but must be a list of classes, such as "
            '["nucleus"].'
        )
    return tuple(dict.fromkeys(stated))


def declared_codes(description: dict[str, Any], path: Path) -> tuple[Structure, ...]:
    """What DICOM calls classes, as in a table of codes. Raises AutosegError when it is none."""
    table = {"structure": description.get(CODES, [])}
    return parse_record(CodeTable, table, f"{path}: {CODES}").structure


def declared_tolerances(description: dict[str, Any], path: Path) -> dict[str, float]:
    """The `tolerances_mm` of classes, or regions, by name: what surfaces may be apart to agree.

    Raises AutosegError when they are anything but lengths above 0.
    """
    stated = description.get(TOLERANCES, {})
    if not isinstance(stated, dict) or not all(map(_is_length, stated.values())):
        raise AutosegError(
            f"{path}: {TOLERANCES} is {str(stated)[:60]}, but must be a mapping of labels to "
            'millimetres above 0, for example {"liver": 5}.'
        )
    return {str(name): float(length_mm) for name, length_mm in stated.items()}


def _is_length(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < float("inf")


def _mistakes(values: list[int], ignore: tuple[int, ...] | None, shown: str) -> Iterator[str]:
    """What is wrong with the values of classes, and of voxels that nobody annotated."""
    if not values or values[0] != 0 or len(values) < 2:
        yield (
            f"labels need a background of value 0 and at least one other class; found {shown}. Add "
            '"background": 0, or the classes.'
        )
    if len(values) > MAX_CLASSES:
        yield f"{len(values)} labels are declared, {MAX_CLASSES} at most can be."
    if ignore is not None and (len(ignore) != 1 or (values and ignore[0] <= values[-1])):
        yield (
            f"the label 'ignore' is {list(ignore)}, but must be a single value that is higher than "
            "all others."
        )


def _missing_or_other(key: str, found: Any) -> str:
    """Says of a key that it is missing, or that it is of another type than a mapping."""
    if found is None:
        return f"{key} is missing"
    return f"{key} is {str(found)[:60]!r}, but must be a mapping in braces"


def _values(name: str, value: Any, path: Path, problems: list[str]) -> tuple[int, ...]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    good = [
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= MAX_LABEL_VALUE for v in values
    ]
    if not values or not all(good):
        problems.append(
            f"{path}: label {name!r} has value {value!r}. Only whole numbers from 0 to "
            f"{MAX_LABEL_VALUE} can be, or lists of them for regions."
        )
        return ()
    return tuple(dict.fromkeys(values))


def _region_order(
    description: dict[str, Any], regions: tuple[Region, ...], values: list[int], path: Path
) -> tuple[int, ...]:
    order = description.get("regions_class_order")
    names = ", ".join(region.name for region in regions)
    if not isinstance(order, list) or len(order) != len(regions):
        raise AutosegError(
            f"{path}: labels are regions, so regions_class_order must list {len(regions)} values: "
            f"those to write where {names} are found, later ones over earlier ones; found {order}."
        )
    unknown = [value for value in order if value not in values]
    if unknown:
        raise AutosegError(f"{path}: regions_class_order has {unknown}, which no region contains.")
    return tuple(int(value) for value in order)
