"""Whether a channel is CT in Hounsfield units: by its name, and by its values."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.problems import Problem
from autoseg.inspection.case import Inspection

Values = NDArray[np.floating[Any]]

CT_WORDS = re.compile(r"ct|cta|ctpa|ccta|cect|ncct|nect|hrct|ldct|mdct|msct|dect|4dct")
CT_PHRASES = (("computed", "tomography"), ("computerized", "tomography"), ("cat", "scan"))
# Words of channels that are something else, or that are made from CT without its unit.
OTHER_WORDS = re.compile(
    r"mri?|t[12]|flair|dwi|adc|pet|pt|spect|nm|us|micro|cone|beam|perfusion|cb[fv]|mtt|tmax|dose"
    r"|suv|mask|label|seg|segmentation|probability|windows?|windowed|normali[sz]ed|scaled|rescaled"
)

AIR_HU, AIR_FRACTION = (-1060.0, -940.0), 0.04
PADDING_HU = (-3100.0, -1024.0)  # outside the field of view: one value, many times
SOFT_TISSUE_HU, SOFT_TISSUE_FRACTION = (-150.0, 250.0), 0.1
LOWEST_HU = -4100.0
PICTURE_MAX = (200.0, 255.0)  # the highest value of 8-bit pictures
WATER_WITH_OFFSET = (900.0, 1300.0)  # where soft tissue lies if 1024 was added
PLAINLY_NOT_MASKED = 300.0  # brains whose skull was set to 0 do not reach it
AGREEING_CASES = 0.8  # the share of scans that must show the same
SCANS_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """Evenly spaced quantiles of one scan's channel: of its background, and of all classes."""

    background: Values
    everywhere: Values


def means_ct(channel: str) -> bool:
    """Whether a channel's name says CT: in capitals or not, alone or among other words.

    `T1-CE`, `PET/CT` and maps that are made from CT are something else.
    """
    words = re.findall(r"[a-z0-9]+", channel.casefold())
    if any(OTHER_WORDS.fullmatch(word) for word in words):
        return False
    pairs = list(pairwise(words))
    return any(map(CT_WORDS.fullmatch, words)) or any(phrase in pairs for phrase in CT_PHRASES)


def channel_problems_of_values(
    dataset: Dataset, inspections: dict[str, Inspection]
) -> Iterator[Problem]:
    """Channels whose names and values do not agree, and names that are taken for CT."""
    for index, name in enumerate(dataset.channel_names):
        scans = list(_scans(inspections, index))
        if not scans:
            continue
        if means_ct(name):
            if name.casefold() != "ct":
                yield _taken_for_ct(name)
            unlike = _unlike_hounsfield(scans)
            if unlike:
                yield _named_but_unlike(name, unlike)
        elif _share([_is_hounsfield(scan) for scan in scans]) >= AGREEING_CASES:
            yield _unnamed(name, index, scans)


def _scans(inspections: dict[str, Inspection], channel: int) -> Iterator[ChannelValues]:
    labelled = [i.samples for i in inspections.values() if i.samples is not None]
    for samples in labelled[:: max(1, len(labelled) // SCANS_LOOKED_AT)]:
        if not len(samples.class_sketch):
            continue
        sketch = samples.class_sketch[:, channel]  # [class, quantile]
        background = sketch[samples.class_values == 0]
        yield ChannelValues((background if len(background) else sketch).ravel(), sketch.ravel())


def _is_hounsfield(scan: ChannelValues) -> bool:
    values = scan.background
    return (
        bool(values.min() >= LOWEST_HU)
        and (_air(values) >= AIR_FRACTION or _padding(values) >= AIR_FRACTION)
        and _inside(scan.everywhere, SOFT_TISSUE_HU) >= SOFT_TISSUE_FRACTION
        and _is_whole(values)
    )


def _unlike_hounsfield(scans: list[ChannelValues]) -> str | None:
    """What shows that values are no Hounsfield units, though a name says so; None if nothing."""
    lowest = min(float(scan.everywhere.min()) for scan in scans)
    highest = max(float(scan.everywhere.max()) for scan in scans)
    reach = f"they reach from {lowest:.4g} to {highest:.4g}"
    if highest - lowest <= 20:
        return f"{reach}, as if they had been normalised"
    if lowest < 0:
        return None
    if PICTURE_MAX[0] <= highest <= PICTURE_MAX[1]:
        return f"{reach}, as those of 8-bit pictures do"
    tissue = [float(np.median(scan.everywhere[scan.everywhere > 0])) for scan in scans
              if (scan.everywhere > 0).any()]  # fmt: skip
    with_offset = [WATER_WITH_OFFSET[0] <= value <= WATER_WITH_OFFSET[1] for value in tissue]
    if _share(with_offset) >= AGREEING_CASES:
        return f"{reach}, and most are near 1024, as if 1024 had been added"
    if highest > PLAINLY_NOT_MASKED:
        return f"{reach}, and none is below 0, where fat is near -100 and air near -1000"
    return None


def _named_but_unlike(name: str, unlike: str) -> Problem:
    return _about_channel(
        "channel_values",
        f"channel {name!r} is CT by its name, but its values are no Hounsfield units: {unlike}.",
        "Export the scans with their rescale slope and intercept, or give the channel another name "
        "in channel_names of dataset.json.",
    )


def _unnamed(name: str, index: int, scans: list[ChannelValues]) -> Problem:
    """Values say CT, and the name does not: the evidence, and how to say it."""
    air = np.mean([_air(scan.background) + _padding(scan.background) for scan in scans])
    tissue = np.mean([_inside(scan.everywhere, SOFT_TISSUE_HU) for scan in scans])
    highest = max(float(scan.everywhere.max()) for scan in scans)
    return _about_channel(
        "channel_values",
        f"channel {name!r} looks like CT, but its name does not say so: whole numbers, {air:.0%} "
        f"of the background near -1000 or padding below, {tissue:.0%} of the values from "
        f"{SOFT_TISSUE_HU[0]:.0f} to {SOFT_TISSUE_HU[1]:.0f}, up to {highest:.0f} and more. It is "
        "normalised as a channel without a fixed scale.",
        f'If it is CT, call it so: "channel_names": {{"{index}": "CT"}} in dataset.json (in the '
        f"plain layout beside images/, with labels in it), or `plan --set "
        f"normalization.{index}.kind=ct`.",
    )


def _taken_for_ct(name: str) -> Problem:
    return _about_channel(
        "channel_assumed",
        f"channel {name!r} is taken for CT in Hounsfield units, by its name.",
        "The rule set nnunet does so only where a channel is called CT.",
    )


def _about_channel(kind: str, what: str, fix: str) -> Problem:
    return Problem(kind=kind, case_id=None, file=None, what=what, fix=fix)


def _air(values: Values) -> float:
    return _inside(values, AIR_HU)


def _padding(values: Values) -> float:
    """The share of the most common value among those that only padding has."""
    low, high = PADDING_HU
    inside = values[(values >= low) & (values <= high)]
    _, counts = np.unique(inside, return_counts=True)
    return 0.0 if not counts.size else float(counts.max() / values.size)


def _inside(values: Values, bounds: tuple[float, float]) -> float:
    return float(np.mean((values >= bounds[0]) & (values <= bounds[1])))


def _is_whole(values: Values) -> bool:
    return bool(np.mean(np.abs(values - np.rint(values)) < 1e-3) > 0.9)


def _share(agree: list[bool]) -> float:
    return float(np.mean(agree)) if agree else 0.0
