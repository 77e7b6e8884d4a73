"""Several DICOM series of one study as the channels of a scan, by patterns of their descriptions.

Which series is which channel is declared, never guessed. Series of one frame of reference are
registered (PS3.3 C.7.4.1); each may have a grid of its own.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.errors import AutosegError
from autoseg.images.dicom.survey import DicomVolume, LeftOut, left_out_of

SHOWN = 12
MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pet": "PT", "pt": "PT", "nm": "NM", "us": "US"}
NO_CHANNEL = "no channel of the model: no pattern is that of its description"


@dataclass(frozen=True, slots=True)
class ChannelCases:
    """Cases whose channels are series, why other studies have none, and series that are none."""

    cases: list[Case]
    problems: list[str]
    left_out: list[LeftOut]


def patterns_of(declared: Mapping[str, str], channel_names: Sequence[str]) -> tuple[str, ...]:
    """The pattern of each channel, in a model's order. Raises AutosegError where they differ."""
    if declared.keys() != set(channel_names):
        raise AutosegError(
            f"Patterns of series are given for {', '.join(declared)}, but the channels are "
            f"{', '.join(channel_names)}. Give one for each, such as "
            + " ".join(f"--series {name}='*{name.lower()}*'" for name in channel_names[:1])
            + "."
        )
    return tuple(declared[name] for name in channel_names)


def match_channels(volumes: Sequence[DicomVolume], patterns: Sequence[str]) -> ChannelCases:
    """A case for each frame of reference in which each pattern is that of one series.

    Cases are named after the first channel, on whose grid they are. With one pattern every series
    that matches is a case.
    """
    found = ChannelCases([], [], [])
    studies: dict[tuple[str, str], list[DicomVolume]] = defaultdict(list)
    for volume in volumes:
        studies[volume.patient, volume.stack.first.instance.study_uid].append(volume)
    used = set[str]()
    for study in studies.values():
        matching = [v for v in study if any(_matches(v, pattern) for pattern in patterns)]
        chosen = _cases_of_study(matching, patterns)
        used |= {volume.name for volume in matching}
        found.cases.extend(_case(channels) for channels in chosen)
        if matching and not chosen:
            found.problems.append(_why_incomplete(study, matching, patterns))
    others = [volume for volume in volumes if volume.name not in used]
    found.left_out.extend(left_out_of(volume.stack, NO_CHANNEL) for volume in others)
    return found


def of_modality(
    volumes: Sequence[DicomVolume], channel_names: Sequence[str]
) -> tuple[list[DicomVolume], list[LeftOut]]:
    """Series that a model of one channel was made for, and others; all, where the channel's name is
    not that of a modality."""
    name = channel_names[0] if len(channel_names) == 1 else ""
    wanted = MODALITIES.get(name.lower())
    if wanted is None:
        return list(volumes), []
    others = [volume for volume in volumes if volume.modality != wanted]
    left_out = [
        left_out_of(
            volume.stack,
            f"of modality {volume.modality or 'unknown'}, and the model's channel is {name}: "
            f"--series {name}='*' takes it all the same",
        )
        for volume in others
    ]
    return [volume for volume in volumes if volume.modality == wanted], left_out


def descriptions(volumes: Sequence[DicomVolume]) -> str:
    """The descriptions of series, each once, as a user needs them to choose patterns."""
    named = sorted({volume.stack.first.instance.description for volume in volumes})
    shown = ", ".join(f"'{name}'" for name in named[:SHOWN])
    return shown + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")


def _matches(volume: DicomVolume, pattern: str) -> bool:
    description = volume.stack.first.instance.description
    return fnmatchcase(description.casefold(), pattern.casefold())


def _cases_of_study(
    matching: Sequence[DicomVolume], patterns: Sequence[str]
) -> list[list[DicomVolume]]:
    """The channels of each case that a study holds."""
    if len(patterns) == 1:
        return [[volume] for volume in matching]
    places: dict[str, list[DicomVolume]] = defaultdict(list)
    for volume in matching:
        if volume.stack.first.instance.reference_uid:
            places[volume.stack.first.instance.reference_uid].append(volume)
    chosen = []
    for beside in places.values():
        of_each = [[v for v in beside if _matches(v, pattern)] for pattern in patterns]
        if all(len(some) == 1 for some in of_each):
            chosen.append([volume for [volume] in of_each])
    return chosen


def _case(channels: Sequence[DicomVolume]) -> Case:
    first = channels[0]
    sources = tuple(ChannelSource(volume.path) for volume in channels)
    return Case(first.name, sources, None, first.patient, in_one_space=len(channels) > 1)


def _why_incomplete(
    study: Sequence[DicomVolume], matching: Sequence[DicomVolume], patterns: Sequence[str]
) -> str:
    """What to tell of a study that holds some of the channels, but no case."""
    return f"{matching[0].name}: {' '.join(_reasons(study, matching, patterns))}"


def _reasons(
    study: Sequence[DicomVolume], matching: Sequence[DicomVolume], patterns: Sequence[str]
) -> Iterator[str]:
    of_each = {pattern: [v for v in matching if _matches(v, pattern)] for pattern in patterns}
    for pattern, some in of_each.items():
        if not some:
            yield (
                f"no series of its study is described as {pattern} (there are "
                f"{descriptions(study)}). Give another pattern, or the series that is missing."
            )
        elif len(some) > 1:
            named = ", ".join(volume.name for volume in some)
            yield (
                f"{len(some)} series of its study are described as {pattern} ({named}: "
                f"{descriptions(some)}). Give a narrower pattern, or one of them."
            )
    if all(len(some) == 1 for some in of_each.values()):
        yield (
            "the series of its channels lie in different frames of reference, or state none, so "
            "they are not registered. Register them, and give NIfTI files <case>_0000 and so on."
        )
