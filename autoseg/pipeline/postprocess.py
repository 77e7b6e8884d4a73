"""Post-processing that cross-validation shows to help, and how much."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.corrections import CorrectedCase, correct_case, scored_classes
from autoseg.evaluation.patients import Interval, Patients, Scores, overall
from autoseg.evaluation.selection_record import Postprocessing, ReportedStep
from autoseg.evaluation.step_candidates import (
    CaseParts,
    class_steps,
    foreground_step,
    look_at_case,
    steps_to_try,
)
from autoseg.evaluation.step_choice import (
    Choices,
    KeptStep,
    Measured,
    choose_steps,
    held_out_scores,
    nnunet_steps,
)
from autoseg.parallel import Progress, map_cases, silent
from autoseg.postprocessing.steps import Step, describe

WORTH_PROCESSES_S = 20.0  # of work: starting them takes seconds


@dataclass(frozen=True, slots=True)
class MasksToCorrect:
    """Held-out masks by case id, with the fold and, for resamples, the patient of each."""

    cases: Mapping[str, CorrectedCase]
    folds: NDArray[np.intp]
    patients: Patients
    labels: LabelScheme


@dataclass(slots=True)
class Corrections:
    """Scores of masks after steps, made once for the same ones; `tried` follow them one by one."""

    cases: Mapping[str, CorrectedCase]
    tried: tuple[Step, ...]
    workers: int
    progress: Progress = silent
    known: dict[tuple[Step, ...], Measured] = field(default_factory=dict)

    def __call__(self, steps: tuple[Step, ...]) -> Measured:
        if steps not in self.known:
            items = {
                case_id: replace(case, steps=steps, candidates=self.tried)
                for case_id, case in self.cases.items()
            }
            what = f"post-processing, {len(steps)} steps kept"
            rows = map_cases(correct_case, items, self._workers(items), self.progress, what)
            scores = np.stack(list(rows.values()))  # [case, 1 + tried, class]
            after = {step: scores[:, 1 + i] for i, step in enumerate(self.tried)}
            self.known[steps] = Measured(scores[:, 0], after)
        return self.known[steps]

    def _workers(self, items: Mapping[str, CorrectedCase]) -> int:
        started = time.perf_counter()
        correct_case(next(iter(items.values())))
        expected = (time.perf_counter() - started) * len(items)
        return self.workers if expected > WORTH_PROCESSES_S else 1


def measured_postprocessing(
    masks: MasksToCorrect, workers: int, progress: Progress = silent
) -> Postprocessing:
    """Keep steps that raise the mean score of held-out cases without lowering any class's.

    None are kept that gain nothing on folds that had no say in their choice.
    """
    parts = list(map_cases(look_at_case, dict(masks.cases), 1, progress, "parts of masks").values())
    choices = _choices(masks, parts)
    measure = Corrections(
        masks.cases, tuple(s for group in choices.groups for s in group), workers, progress
    )
    every = np.ones(len(masks.cases), bool)
    before = measure(()).before
    kept = choose_steps(measure, choices, every)
    several = len(np.unique(masks.folds)) > 1
    held_out = held_out_scores(measure, choices, masks.folds) if kept and several else None
    helps = held_out is None or overall(held_out) > overall(before)
    after = measure(tuple(k.step for k in kept)).before
    return Postprocessing(
        steps=_reported(kept) if helps else (),
        before=overall(before),
        after=overall(after if helps else before),
        gain=overall(after) - overall(before),
        gain_interval=masks.patients.gain(before, after),
        held_out_gain=None if held_out is None else overall(held_out) - overall(before),
        held_out_interval=None if held_out is None else masks.patients.gain(before, held_out),
        because=_because(kept, before, held_out, masks.patients),
        left_off=_left_off(choices.unseen(every)),
    )


def postprocessing_as_nnunet(
    masks: MasksToCorrect, workers: int, progress: Progress = silent
) -> Postprocessing:
    """Keep what nnU-Net would."""
    foreground, by_class = foreground_step(masks.labels), class_steps(masks.labels)
    measure = Corrections(masks.cases, (foreground, *by_class), workers, progress)
    kept = nnunet_steps(measure, foreground, by_class)
    before, after = measure(()).before, measure(tuple(k.step for k in kept)).before
    return Postprocessing(
        steps=_reported(kept),
        before=overall(before),
        after=overall(after),
        gain=overall(after) - overall(before),
        gain_interval=masks.patients.gain(before, after),
        because="by nnU-Net's rules" if kept else "nothing is kept by nnU-Net's rules",
    )


def no_postprocessing(scores: Scores, because: str) -> Postprocessing:
    """Nothing is tried."""
    score = overall(scores)
    none = Interval(low=0, high=0)
    return Postprocessing(before=score, after=score, gain=0, gain_interval=none, because=because)


def _choices(masks: MasksToCorrect, parts: list[CaseParts]) -> Choices:
    confidences = [case.confidences for case in masks.cases.values()]
    names = list(scored_classes(masks.labels))
    seen = np.array([[case.seen[name] for name in names] for case in parts])
    return Choices(steps_to_try(masks.labels, parts, confidences), names, seen)


def _reported(kept: tuple[KeptStep, ...]) -> tuple[ReportedStep, ...]:
    return tuple(ReportedStep(step=k.step, what=describe(k.step), gain=k.gain) for k in kept)


def _because(
    kept: tuple[KeptStep, ...], before: Scores, held_out: Scores | None, patients: Patients
) -> str:
    if not kept:
        return "no step raises the mean without lowering that of a class"
    if held_out is None:
        return "there is a single fold, so the gain is of the cases that steps were chosen on"
    gain = overall(held_out) - overall(before)
    interval = patients.gain(before, held_out)
    bounds = f"{gain:+.4f} (95 % interval {interval.low:+.4f} to {interval.high:+.4f})"
    if gain <= 0:
        return f"nothing is kept: chosen on other folds, steps gain {bounds}"
    says = "excludes 0" if interval.excludes_zero else "does not exclude 0"
    return f"chosen on other folds, steps gain {bounds}, which {says}"


def _left_off(unseen: list[str]) -> tuple[str, ...]:
    if not unseen:
        return ()
    return (
        f"nothing is tried for {', '.join(unseen)}, nor for all foreground together, since no "
        "held-out reference has them",
    )
