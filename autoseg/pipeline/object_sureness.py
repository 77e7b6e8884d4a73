"""How sure one may be of objects: those that each fold's own model found in its held-out cases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.numbered import numbers_of_mask
from autoseg.evaluation.object_sureness import GROUPS, JudgedObjects, learned_sureness
from autoseg.evaluation.scored_case import CasePair, ScoredCase, score_case
from autoseg.evaluation.selection import Subset
from autoseg.evaluation.statistics import Floats
from autoseg.parallel import Progress, map_cases, silent
from autoseg.pipeline.held_out import HeldOut
from autoseg.postprocessing.sureness import ObjectSureness

IOU = 0.5  # from which on an object is right
METRIC = "ap50"  # which looks at all objects


def sureness_of_objects(
    held_out: HeldOut,
    subset: Subset,
    labels: LabelScheme,
    workers: int,
    progress: Progress = silent,
) -> ObjectSureness | None:
    """What scores of objects are worth; None without things, of ensembles of configurations, whose
    objects were not written, and of masks that an earlier version wrote without."""
    if not labels.things or len(subset) > 1:
        return None
    pairs = {}
    folds = {}
    for fold, cases in held_out.cases.items():
        for case in cases:
            numbers = _numbers(held_out, subset, fold, case)
            if numbers is None or case.label is None:
                return None
            mask = numbers if labels.instances else numbers.parent.parent / numbers.name
            pairs[case.case_id] = CasePair(
                mask, case.label, labels, (METRIC,), numbered=labels.instances
            )
            folds[case.case_id] = fold
    scored = map_cases(score_case, pairs, workers, progress, "judging objects")
    groups = np.array(list(folds.values()))
    if len(set(folds.values())) == 1:  # parts of cases, in place of folds
        groups = np.arange(len(scored)) % GROUPS
    judged = {
        labels.values[index]: _judged(labels, index, list(scored.values()), groups.tolist())
        for index in labels.thing_classes
    }
    return learned_sureness(judged, len(set(folds.values())), IOU)


def _numbers(held_out: HeldOut, subset: Subset, fold: int, case: Case) -> Path | None:
    """The map of objects that the training of a fold wrote of a case."""
    member = held_out.found.members[subset[0]]
    folder = held_out.work.fold(member.plan, member.configuration.name, fold)
    return numbers_of_mask(folder.mask(case.case_id))


def _judged(
    labels: LabelScheme, index: int, scored: Sequence[ScoredCase], groups: Sequence[int]
) -> JudgedObjects:
    scores: list[Floats] = [np.zeros(0)]
    right, group = [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    for case, own in zip(scored, groups, strict=True):
        classes = case.scores.get(str(labels.values[index]))
        found = None if classes is None else classes.detections
        if found is None or not found.ranked:
            continue
        matched = found.ious >= IOU
        counts = matched | found.may_be_false
        scores.append(found.confidences[counts])
        right.append(matched[counts])
        group.append(np.full(int(counts.sum()), own))
    return JudgedObjects(
        labels.names[index], np.concatenate(scores), np.concatenate(right), np.concatenate(group)
    )
