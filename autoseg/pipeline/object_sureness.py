"""How sure one may be of objects: those that each fold's own model found in its held-out cases."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.numbered import numbers_of_mask
from autoseg.evaluation.object_sureness import JudgedObjects, learned_sureness
from autoseg.evaluation.scored_case import CasePair, ScoredCase, score_case
from autoseg.evaluation.selection import Subset
from autoseg.evaluation.statistics import Floats
from autoseg.parallel import Progress, map_cases, silent
from autoseg.pipeline.held_out import HeldOut
from autoseg.postprocessing.sureness import ObjectSureness
from autoseg.work_folder import PROVENANCE, mask_path

IOU = 0.5  # from which on an object is right
METRIC = "ap50"  # which makes scoring keep all objects
PARTS = 10  # of patients, where there is one fold

Known = tuple[ObjectSureness | None, tuple[str, ...]]


def sureness_of_objects(
    held_out: HeldOut,
    subset: Subset,
    labels: LabelScheme,
    workers: int,
    progress: Progress = silent,
) -> Known:
    """What scores of objects are worth, and a note where that of things cannot be known: of
    ensembles of configurations, whose objects were not written, and where the objects of held-out
    cases are not those of the models that there are now."""
    if not labels.things:
        return None, ()
    if len(subset) > 1:
        return None, ("How probable objects are is learned for single configurations only.",)
    member = held_out.found.members[subset[0]]
    pairs: dict[str, CasePair | None] = {}
    for fold, cases in held_out.cases.items():
        folder = held_out.work.fold(member.plan, member.configuration.name, fold).validation
        made = _made_by(folder, set(member.hashes(fold)))
        pairs |= {c.case_id: _pair(folder, c, labels) if c.case_id in made else None for c in cases}
    if any(pair is None for pair in pairs.values()):
        return None, (
            "How probable objects are is not known: held-out cases have none by the models that "
            "there are now. Delete summary.json in the folds' validation/ and run `autoseg train "
            "--resume`, which writes them.",
        )
    known = {name: pair for name, pair in pairs.items() if pair is not None}
    scored = map_cases(score_case, known, workers, progress, "judging objects")
    parts = _parts(held_out)
    judged = {
        labels.values[index]: _judged(labels, index, list(scored.values()), parts)
        for index in labels.thing_classes
    }
    return learned_sureness(judged, len(set(parts)), IOU), ()


def _parts(held_out: HeldOut) -> list[int]:
    """What is left out together of each case: its fold, or of a single one a tenth of patients."""
    cases = [(fold, case) for fold, own in held_out.cases.items() for case in own]
    if len(held_out.cases) > 1:
        return [fold for fold, _ in cases]
    patients = {case.patient_id: None for _, case in cases}
    order = {patient: index % PARTS for index, patient in enumerate(patients)}
    return [order[case.patient_id] for _, case in cases]


def _made_by(folder: Path, models: set[str]) -> set[str]:
    """The cases whose masks in a folder are of these models, by hash."""
    path = folder / PROVENANCE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ()
    last = {one["case_id"]: set(one["models"]) for one in map(json.loads, lines)}
    return {case_id for case_id, by in last.items() if by == models}


def _pair(folder: Path, case: Case, labels: LabelScheme) -> CasePair | None:
    """The objects that a training wrote of a case, and its reference; None where there are none."""
    mask = mask_path(folder, case.case_id)
    numbers = numbers_of_mask(mask)
    if numbers is None or case.label is None:
        return None
    own = numbers if labels.instances else mask
    return CasePair(own, case.label, labels, (METRIC,), numbered=labels.instances)


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
