"""Selecting: from trained configurations to those that predict, and to what corrects their masks.

Every held-out case is predicted once, by the models of its fold; ensembles are decided as blocks of
the scan pass. Then scores choose, and steps of post-processing are measured on what was chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.evaluation.corrections import (
    COUNTED,
    CorrectedCase,
    correct_case,
    scored_classes,
)
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import METRICS
from autoseg.evaluation.patients import Patients, Scores
from autoseg.evaluation.selection import (
    ScoredCandidate,
    Subset,
    choose_as_nnunet,
    choose_candidate,
    score_candidates,
    subsets_to_try,
)
from autoseg.evaluation.selection_record import (
    Postprocessing,
    RulesName,
    SelectedMember,
    SelectedModel,
    Selection,
)
from autoseg.inference.predictor import Predictor
from autoseg.parallel import Progress, map_cases, silent
from autoseg.pipeline.calibration import HeldOutMask, learned_quality
from autoseg.pipeline.candidates import Found, find_candidates
from autoseg.pipeline.held_out import (
    HeldOut,
    Running,
    pooled_reliability,
    predict_held_out,
    predictor_of_fold,
)
from autoseg.pipeline.object_sureness import sureness_of_objects
from autoseg.pipeline.postprocess import (
    MasksToCorrect,
    measured_postprocessing,
    no_postprocessing,
    postprocessing_as_nnunet,
)
from autoseg.pipeline.prepare import planned_dataset
from autoseg.pipeline.selected import read_selection
from autoseg.postprocessing.quality import QualityModel
from autoseg.records import Record, load_record, save_record
from autoseg.work_folder import WorkFolder

OF_PROBABILITIES = ("ece", "brier")  # which held-out masks are kept without


class SelectJob(Record):
    """What to choose from, by which metric and rules, and where networks run.

    Paths and names alone, so that it can be sent to any process or machine.
    """

    work: Path = Path("autoseg_work")
    plans: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    metric: str = COUNTED
    rules: RulesName = "autoseg"
    running: Running = Running()


@dataclass(frozen=True, slots=True)
class Scored:
    """All held-out cases in the order of their names, and scores of each subset."""

    held_out: HeldOut
    labels: LabelScheme
    cases: tuple[Case, ...]
    folds: NDArray[np.intp]  # [case]
    patients: Patients
    scores: Mapping[Subset, Scores]


def select(job: SelectJob, workers: int, progress: Progress = silent) -> Selection:
    """Choose among trained configurations and their ensembles, and save it as selection.json.

    Raises AutosegError when nothing can be compared, or the metric has no better end.
    """
    _check_metric(job)
    work = WorkFolder(job.work)
    found = find_candidates(work, job.plans, job.configurations)
    held_out = _held_out(work, found, job.rules)
    predict_held_out(held_out, job.running, progress)
    scored = _scored(held_out, job.metric, workers, progress)
    _check_scores(scored, job.metric)
    candidates = _candidates(scored)
    choice = choose_as_nnunet(candidates) if job.rules == "nnunet" else choose_candidate(candidates)
    subset = held_out.subsets[choice.index]
    less_is_better = METRICS[job.metric].better != "higher"
    sureness, notes = sureness_of_objects(held_out, subset, scored.labels, workers, progress)
    selection = Selection(
        rules=job.rules,
        metric=job.metric,
        folds=found.folds,
        cases=len(scored.cases),
        patients=len({case.patient_id for case in scored.cases}),
        candidates=tuple(c.negated() if less_is_better else c for c in candidates),
        members=tuple(_member(found, index) for index in subset),
        because=choice.because,
        postprocessing=_postprocessing(job, scored, subset, workers, progress),
        quality=_quality(job, scored, subset, progress),
        reliability=pooled_reliability(held_out, subset),
        sureness=sureness,
        notes=(*found.notes, *notes),
    )
    save_record(selection, work.selection)
    return selection


def _check_metric(job: SelectJob) -> None:
    usable = [n for n, metric in METRICS.items() if metric.better and n not in OF_PROBABILITIES]
    if job.metric not in usable:
        raise AutosegError(
            f"--metric {job.metric}: there is no such metric of masks with a better end. Choose of "
            f"{', '.join(usable)}."
        )
    if job.rules == "nnunet" and job.metric != COUNTED:
        raise AutosegError(f"--as nnunet: nnU-Net selects by {COUNTED}. Leave --metric out.")


def _check_scores(scored: Scored, metric: str) -> None:
    """Every candidate has a score by the metric in some case."""
    without = [s for s, own in scored.scores.items() if np.isnan(own).all()]
    members = scored.held_out.found.members
    names = [" + ".join(members[index].name for index in subset) for subset in without]
    if names:
        raise AutosegError(
            f"--metric {metric}: {', '.join(names)} {'has' if len(names) == 1 else 'have'} no "
            "score in any held-out case, as where masks and references are all empty. Choose by "
            "another metric, or check the references: autoseg check."
        )


def _held_out(work: WorkFolder, found: Found, rules: RulesName) -> HeldOut:
    dataset = planned_dataset(work, work.plan(found.members[0].plan))
    if not dataset.cases[0].files():
        raise AutosegError(
            f"{dataset.root}: the dataset is not there, so nothing can be scored. Say where it "
            "lies now: autoseg plan NEW_PLACE."
        )
    by_id = {case.case_id: case for case in dataset.cases}
    splits = work.splits()
    cases = {
        fold: tuple(by_id[case_id] for case_id in sorted(splits.folds[fold].validation))
        for fold in found.folds
    }
    subsets = subsets_to_try(_ranking(work, found))
    if rules == "nnunet":
        subsets = tuple(subset for subset in subsets if len(subset) <= 2)
    return HeldOut(work, found, subsets, cases)


def _ranking(work: WorkFolder, found: Found) -> list[int]:
    """Members from the best on, by what training measured; those without scores come last."""

    def dice(index: int) -> float:
        member = found.members[index]
        folders = [work.fold(member.plan, member.configuration.name, fold) for fold in found.folds]
        there = [folder.summary for folder in folders if folder.summary.is_file()]
        means = [load_record(Evaluation, path).mean.get("dice") for path in there]
        known = [mean for mean in means if mean is not None]
        return float(np.mean(known)) if known else 0.0

    return sorted(range(len(found.members)), key=lambda index: (-dice(index), index))


def _scored(held_out: HeldOut, metric: str, workers: int, progress: Progress) -> Scored:
    work, member = held_out.work, held_out.found.members[0]
    labels = work.plan(member.plan).labels
    pairs = sorted(
        ((case, fold) for fold, cases in held_out.cases.items() for case in cases),
        key=lambda pair: pair[0].case_id,
    )
    cases = tuple(case for case, _ in pairs)
    items = {
        f"{held_out.name(subset)} {case.case_id}": CorrectedCase(
            held_out.mask(subset, case.case_id), _reference(case), labels, metric=metric
        )
        for subset in held_out.subsets
        for case in cases
    }
    rows = list(map_cases(correct_case, items, workers, progress, "scoring masks").values())
    scores = np.stack(rows)[:, 0].reshape(len(held_out.subsets), len(cases), -1)
    return Scored(
        held_out,
        labels,
        cases,
        np.array([fold for _, fold in pairs]),
        Patients.of([case.patient_id for case in cases]),
        dict(zip(held_out.subsets, scores, strict=True)),
    )


def _reference(case: Case) -> Path:
    assert case.label is not None, case.case_id
    return case.label


def _candidates(scored: Scored) -> tuple[ScoredCandidate, ...]:
    members = scored.held_out.found.members
    named = {tuple(members[i].name for i in subset): s for subset, s in scored.scores.items()}
    classes = list(scored_classes(scored.labels))
    return score_candidates(named, classes, scored.held_out.seconds(), scored.patients)


def _postprocessing(
    job: SelectJob, scored: Scored, subset: Subset, workers: int, progress: Progress
) -> Postprocessing:
    if scored.labels.instances:
        return no_postprocessing(
            scored.scores[subset],
            "objects that touch are one component of the mask, which steps would break",
        )
    cases = {
        case.case_id: CorrectedCase(
            scored.held_out.mask(subset, case.case_id),
            _reference(case),
            scored.labels,
            scored.held_out.confidences(subset, case.case_id),
            job.metric,
        )
        for case in scored.cases
    }
    masks = MasksToCorrect(cases, scored.folds, scored.patients, scored.labels)
    if job.rules == "nnunet":
        return postprocessing_as_nnunet(masks, workers, progress)
    return measured_postprocessing(masks, workers, progress)


def _quality(
    job: SelectJob, scored: Scored, subset: Subset, progress: Progress
) -> QualityModel | None:
    """What Dice is to be expected of masks by a subset, before steps correct them; as the earlier
    selection knows it, if it is of these very models."""
    held_out = scored.held_out
    earlier = _earlier(held_out.work)
    members = tuple(_member(held_out.found, index) for index in subset)
    same = earlier is not None and earlier.members == members and earlier.cases == len(scored.cases)
    if earlier is not None and same and earlier.quality is not None:
        return earlier.quality

    def expected_dice(case: Case) -> dict[str, float | None]:
        own = held_out.confidences(subset, case.case_id)
        return {name: confidence.expected_dice for name, confidence in own.items()}

    masks = {
        fold: [HeldOutMask(c, held_out.mask(subset, c.case_id), expected_dice(c)) for c in cases]
        for fold, cases in held_out.cases.items()
    }

    def predictor_of(fold: int) -> Predictor:
        return predictor_of_fold(held_out, fold, subset, job.running)

    return learned_quality(masks, scored.labels, predictor_of, progress)


def _earlier(work: WorkFolder) -> Selection | None:
    """The selection that is to be replaced, if it can be read."""
    try:
        return read_selection(work)
    except AutosegError:
        return None


def _member(found: Found, index: int) -> SelectedMember:
    member = found.members[index]
    files = dict.fromkeys(model for models in member.folds.values() for model in models)
    return SelectedMember(
        plan=member.plan,
        configuration=member.configuration.name,
        models=tuple(SelectedModel(path=str(f.path), hash=f.hash) for f in files),
    )
