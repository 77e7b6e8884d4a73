"""Regions that are painted over each other: which order leaves each of them in a mask."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.dataset.problems import Problem


def region_problems(scheme: LabelScheme, path: Path) -> list[Problem]:
    """What a mask painted by the declared order loses; an error where another order loses less.

    A mask is painted region by region, each with its value, later ones over earlier ones. So what
    a voxel of one label value becomes must lie in the same regions as that label value.
    """
    if not scheme.regions:
        return []
    losses = _losses(scheme.regions, scheme.region_order)
    if not losses:
        return []
    better = _working_order(scheme.regions)
    never = [
        r.name for r in scheme.regions if not _survives(r, scheme.regions, scheme.region_order)
    ]
    what = "by labels and regions_class_order, " + "; ".join(losses) + "."
    if better is not None:
        kind, fix = "region_order", f"This order loses nothing: {_declared(scheme, *better)}."
    elif never:
        kind = "region_order"
        what += f" So {', '.join(never)} can be in no mask."
        fix = (
            "Regions that overlap without one being in the other need a label value where they "
            "overlap, written by a region of its own that is painted last."
        )
    else:
        kind = "region_overlap"
        fix = "No order of these regions keeps all of them where they overlap."
    return [Problem(kind=kind, case_id=None, file=str(path), what=what, fix=fix)]


def _painted(value: int, regions: Sequence[Region], order: Sequence[int]) -> int:
    """What a voxel of a label value is in the mask: the value of the last region that has it."""
    return [o for region, o in zip(regions, order, strict=True) if value in region.values][-1]


def _losses(regions: Sequence[Region], order: Sequence[int]) -> list[str]:
    """What becomes of label values that end up in other regions, in words."""
    losses = []
    for value in sorted({value for region in regions for value in region.values}):
        painted = _painted(value, regions, order)
        lost = [r.name for r in regions if value in r.values and painted not in r.values]
        won = [r.name for r in regions if value not in r.values and painted in r.values]
        effects = [f"is no longer {name}" for name in lost] + [f"becomes {name}" for name in won]
        if effects:
            losses.append(f"label {value} is written as {painted}, so it {' and '.join(effects)}")
    return losses


def _survives(region: Region, regions: Sequence[Region], order: Sequence[int]) -> bool:
    return any(_painted(value, regions, order) in region.values for value in region.values)


def _working_order(
    regions: Sequence[Region],
) -> tuple[tuple[Region, ...], tuple[int, ...]] | None:
    """Regions and values that lose nothing: in the order given if it can be, else large to small.

    None where there is none of these two.
    """
    large_first = sorted(regions, key=lambda region: -len(set(region.values)))
    for candidate in (tuple(regions), tuple(large_first)):
        order = tuple(_own_value(index, candidate) for index in range(len(candidate)))
        if not _losses(candidate, order):
            return candidate, order
    return None


def _own_value(index: int, regions: Sequence[Region]) -> int:
    """A value of a region that no later one paints over, or any of its values."""
    later = {value for region in regions[index + 1 :] for value in region.values}
    values = regions[index].values
    return next((value for value in values if value not in later), values[0])


def _declared(scheme: LabelScheme, regions: Sequence[Region], order: Sequence[int]) -> str:
    """Regions and their order as a `dataset.json` declares them."""
    labels: dict[str, Any] = {scheme.names[0]: 0}
    labels |= {r.name: r.values[0] if len(r.values) == 1 else list(r.values) for r in regions}
    labels |= {} if scheme.ignore is None else {"ignore": scheme.ignore}
    shown = json.dumps(labels, ensure_ascii=False)
    return f'"labels": {shown}, "regions_class_order": {list(order)}'
