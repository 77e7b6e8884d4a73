"""Folds that a dataset brings along: hand-written ones are looked at before they train."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.dataset.layouts.naming import composed
from autoseg.dataset.problems import Problem

Folds = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

SIDES = ("train", "val")
SHOWN = 5
FIX = "Correct the file, or remove it; then autoseg makes folds of its own."


def declared_folds(
    content: Any, path: Path, known: set[str], usable: set[str], problems: list[Problem]
) -> Folds:
    """The folds that a file lists, without cases that cannot be used; none if they have mistakes.

    `known` are all cases that are there, `usable` those of which nothing is missing.
    """
    mistakes = list(_mistakes(content, known))
    problems += [
        Problem(kind="folds", case_id=None, file=str(path), what=mistake, fix=FIX)
        for mistake in mistakes
    ]
    if mistakes:
        return ()
    sides = [[[composed(case) for case in fold[side]] for side in SIDES] for fold in content]
    kept = [[tuple(c for c in side if c in usable) for side in fold] for fold in sides]
    return tuple((train, held_out) for train, held_out in kept)


def _mistakes(content: Any, known: set[str]) -> Iterator[str]:
    if not isinstance(content, list):
        yield 'must be a list of {"train": [...], "val": [...]}, one for each fold.'
        return
    if not content:
        yield "holds no fold."
    for number, fold in enumerate(content):
        if not isinstance(fold, dict) or not all(isinstance(fold.get(s), list) for s in SIDES):
            found = ", ".join(map(str, fold)) if isinstance(fold, dict) else repr(fold)[:40]
            yield f'fold {number} must be {{"train": [...], "val": [...]}}; it has {found}.'
        elif not all(isinstance(case, str) for side in SIDES for case in fold[side]):
            yield f"fold {number} must list the names of cases, as texts in double quotes."
        else:
            sides = {side: [composed(case) for case in fold[side]] for side in SIDES}
            yield from (f"fold {number}: {mistake}" for mistake in fold_mistakes(sides, known))


def fold_mistakes(fold: Mapping[str, Sequence[str]], known: set[str]) -> Iterator[str]:
    """Why a fold cannot train, as sentences.

    It maps two names, as its file calls them, to the cases to train on and those held out.
    """
    (train, trained), (val, held_out) = fold.items()
    if not trained:
        yield f"there is no case to train on ({train} is empty)."
    if not held_out:
        yield f"no case is held out ({val} is empty); `autoseg train --fold all` holds none out."
    for side, cases in fold.items():
        if twice := [case for case, count in Counter(cases).items() if count > 1]:
            yield f"{_some(twice)} listed more than once in {side}."
    if both := sorted(set(trained) & set(held_out)):
        yield f"{_some(both)} both trained on and held out."
    if unknown := sorted({*trained, *held_out} - known):
        example = f"; cases are called as {min(known)} is" if known else ""
        yield f"{_some(unknown)} in its folds, but not in the dataset{example}."


def _some(cases: list[str]) -> str:
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return f"{', '.join(cases[:SHOWN])}{more} {'is' if len(cases) == 1 else 'are'}"
