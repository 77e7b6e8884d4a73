"""Which steps of post-processing are kept: those that cross-validation shows to help."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.patients import Scores, class_means, overall
from autoseg.postprocessing.steps import FOREGROUND, Step

Cases = NDArray[np.bool_]  # which of them count


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores [case, class] of masks after some steps, and after one more of several."""

    before: Scores
    after: Mapping[Step, Scores]


Measure = Callable[[tuple[Step, ...]], Measured]  # after these steps; the same for the same ones


@dataclass(frozen=True, slots=True)
class Choices:
    """Steps to choose from: of each group one at most, group after group.

    `seen` are the classes that references have [case, class], by the names in `classes`.
    """

    groups: Sequence[tuple[Step, ...]]
    classes: Sequence[str]
    seen: NDArray[np.bool_]

    def open_to(self, cases: Cases) -> list[tuple[Step, ...]]:
        """Groups of what the references of some cases have: nothing is known of other classes."""
        unseen = self.unseen(cases)
        return [
            group
            for group in self.groups
            if group and group[0].of not in unseen and not (group[0].of == FOREGROUND and unseen)
        ]

    def unseen(self, cases: Cases) -> list[str]:
        seen = self.seen[cases]
        return [name for index, name in enumerate(self.classes) if not seen[:, index].any()]


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step, and what it adds to the mean score of the cases that it was chosen on."""

    step: Step
    gain: float


def choose_steps(measure: Measure, choices: Choices, cases: Cases) -> tuple[KeptStep, ...]:
    """Of each group the step that raises the mean of some cases most, if any does without lowering
    the mean of a class."""
    kept: tuple[KeptStep, ...] = ()
    for group in choices.open_to(cases):
        found = measure(tuple(k.step for k in kept))
        before = found.before[cases]
        gains = [_gain(before, found.after[step][cases]) for step in group]
        best = int(np.argmax(gains))
        if gains[best] > 0:
            kept = (*kept, KeptStep(group[best], gains[best]))
    return kept


def _gain(before: Scores, after: Scores) -> float:
    """What the mean rises by; 0 where a class falls."""
    means = class_means(before), class_means(after)
    if (means[1] < means[0]).any():
        return 0.0
    return max(0.0, overall(after) - overall(before))


def held_out_scores(measure: Measure, choices: Choices, folds: NDArray[np.intp]) -> Scores:
    """Scores [case, class] after steps that were chosen without the fold [case] of each case."""
    scores = measure(()).before.copy()
    for fold in np.unique(folds):
        kept = choose_steps(measure, choices, folds != fold)
        held_out = folds == fold
        scores[held_out] = measure(tuple(k.step for k in kept)).before[held_out]
    return scores


def nnunet_steps(
    measure: Measure, foreground: Step, by_class: Sequence[Step]
) -> tuple[KeptStep, ...]:
    """What nnU-Net 2.8.1 keeps of largest components (`determine_postprocessing`).

    First of all foreground, if the mean over classes rises and no class falls; then of each class
    in turn, if its own mean rises, whatever others do. `by_class` has a step for each class, in the
    order of the scores; a single class has only the first rule.
    """
    kept: tuple[KeptStep, ...] = ()
    found = measure(())
    before, after = class_means(found.before), class_means(found.after[foreground])
    if after.mean() > before.mean() and not (after < before).any():
        kept = (KeptStep(foreground, float(after.mean() - before.mean())),)
    for index, step in enumerate(by_class if len(by_class) > 1 else ()):
        found = measure(tuple(k.step for k in kept))
        before, after = class_means(found.before), class_means(found.after[step])
        if after[index] > before[index]:
            kept = (*kept, KeptStep(step, float(np.nanmean(after) - np.nanmean(before))))
    return kept
