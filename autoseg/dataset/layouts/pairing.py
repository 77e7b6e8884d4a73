"""Images and labels of one name; and those whose names only nearly agree, with what to rename."""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.layouts.naming import label_ending
from autoseg.dataset.problems import Problem

LABEL_WORDS = (
    "0000|seg|segm|segs|segmentation|segmentations|label|labels|lbl|mask|masks|gt|groundtruth|"
    "ground_truth|annotation|annotations|roi|manual"
)
IMAGE_WORDS = "image|images|img|im|scan|vol|volume"
LABEL_AFFIXES, IMAGE_AFFIXES = (
    (re.compile(rf"^(?:{words})[-_. ]+", re.I), re.compile(rf"[-_. ]+(?:{words})$", re.I))
    for words in (LABEL_WORDS, IMAGE_WORDS)
)
SHOWN = 3

Affixes = tuple[re.Pattern[str], re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class NamePart:
    """A name as what it is of, between words that say what kind of file it is."""

    before: str
    core: str
    after: str


@dataclass(frozen=True, slots=True)
class NearPair:
    """A label that is meant for a case, but is called otherwise; the names' parts agree."""

    case_id: str
    file: Path
    is_called: NamePart
    should_be: NamePart

    def expected(self) -> str:
        return f"{self.case_id}{label_ending(self.file)}"


def near_pairs(case_ids: set[str], labels: Mapping[str, Path]) -> list[NearPair]:
    """For cases without a label, files that are called nearly so: `case_seg`, `mask_case`, …

    `labels` are those without a case, by name. Only what is certain is paired: one file that fits
    one case.
    """
    cases: dict[str, dict[str, NamePart]] = defaultdict(dict)
    for case_id in case_ids:
        for part in _parts(case_id, IMAGE_AFFIXES):
            cases[part.core.casefold()][case_id] = part
    found: dict[str, list[NearPair]] = defaultdict(list)
    for name, file in labels.items():
        for part in _parts(name, LABEL_AFFIXES):
            fitting = cases.get(part.core.casefold(), {})
            if len(fitting) == 1:
                ((case_id, meant),) = fitting.items()
                found[case_id].append(NearPair(case_id, file, part, meant))
                break
    return [pairs[0] for pairs in found.values() if len(pairs) == 1]


def near_problems(pairs: list[NearPair]) -> list[Problem]:
    """What to rename; one problem where many labels are called in one way."""
    kinds: dict[tuple[str, ...], list[NearPair]] = defaultdict(list)
    for pair in pairs:
        called, meant = pair.is_called, pair.should_be
        same = called.core == meant.core
        way = (called.before, called.after, meant.before, meant.after, label_ending(pair.file))
        kinds[way if same else ("in other letters",)].append(pair)
    return [
        problem
        for group in kinds.values()
        for problem in ([_alike(group)] if len(group) > 1 else [_single(group[0])])
    ]


def _single(pair: NearPair) -> Problem:
    return Problem(
        kind="naming",
        case_id=pair.case_id,
        file=str(pair.file),
        what=f"is the only file that fits this case, but its label must be called "
        f"{pair.expected()}.",
        fix=f"Rename it to {pair.expected()}.",
    )


def _alike(pairs: list[NearPair]) -> Problem:
    first = pairs[0]
    shown = ", ".join(f"{pair.file.name} to {pair.expected()}" for pair in pairs[:SHOWN])
    more = f", and {len(pairs) - SHOWN} more alike" if len(pairs) > SHOWN else ""
    fix = f"Rename {shown}{more}."
    if first.is_called.core == first.should_be.core:
        fix += f" In a shell: {_command(first)}"
    return Problem(
        kind="naming",
        case_id=None,
        file=str(first.file.parent),
        what=f"holds {len(pairs)} labels that are called otherwise than their cases, such as "
        f"{first.file.name}, where {first.expected()} is expected.",
        fix=fix,
    )


def _command(pair: NearPair) -> str:
    """A shell command that renames all labels that are called as this one is."""
    ending = label_ending(pair.file)
    called, meant = pair.is_called, pair.should_be
    before, after, first, last = (
        shlex.quote(part) if part else ""
        for part in (called.before, called.after + ending, meant.before, meant.after + ending)
    )
    cut = f'n="${{n#{before}}}"; ' if before else ""
    return (
        f"cd {shlex.quote(str(pair.file.parent))} && for f in {before}*{after}; do "
        f'n="${{f%{after}}}"; {cut}mv -n -- "$f" {first}"$n"{last}; done'
    )


def _parts(name: str, affixes: Affixes) -> Iterator[NamePart]:
    """A name, then what is left of it as words before and after it are taken off one by one."""
    before, core, after = "", name, ""
    yield NamePart(before, core, after)
    prefix, suffix = affixes
    while True:
        if found := suffix.search(core):
            core, after = core[: found.start()], found[0] + after
        elif found := prefix.search(core):
            core, before = core[found.end() :], before + found[0]
        else:
            return
        yield NamePart(before, core, after)


def without_its_number(
    groups: Mapping[str, Mapping[int, Path]], labels: Mapping[str, Path]
) -> list[NearPair]:
    """Labels called `case_0000` of cases that have channels `_0000` and `_0001`: meant is `case`.

    Several such cases must be there: four digits of one name may well number scans.
    """
    found = [
        NearPair(case_id, labels[f"{case_id}_0000"], *_numbered(case_id))
        for case_id, channels in sorted(groups.items())
        if len(channels) > 1 and case_id not in labels and f"{case_id}_0000" in labels
        if not any(f"{case_id}_{index:04d}" in labels for index in channels if index)
    ]
    return found if len(found) > 1 else []


def _numbered(case_id: str) -> tuple[NamePart, NamePart]:
    return NamePart("", case_id, "_0000"), NamePart("", case_id, "")
