"""Evaluating: masks, or what folds held out, against references, side by side where several are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.dataset.dataset import Case
from autoseg.dataset.layouts.naming import label_name
from autoseg.errors import AutosegError
from autoseg.evaluation.comparison import SideBySide, side_by_side
from autoseg.evaluation.declared import Declared, find_labels, labels_of_plan, read_labels_of
from autoseg.evaluation.evaluate import evaluate_pairs, with_sources
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.mask_pair import TOLERANCE_MM, Convention
from autoseg.evaluation.pairing import Pairing, pair_masks
from autoseg.evaluation.patients import Patients, find_patients
from autoseg.evaluation.scoring import Scoring, chosen_metrics, tolerances_by_class
from autoseg.parallel import Progress, silent
from autoseg.pipeline.prepare import is_away, planned_dataset
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import Plan
from autoseg.records import Record
from autoseg.work_folder import WorkFolder


class EvaluateJob(Record):
    """What to score: folders of masks, or single ones, against references; without them, what the
    trained folds of a work folder held out.

    `labels` is a file that declares classes; without it they are looked for. `metrics` are names,
    none for all. Tolerances in mm are for all classes, and for some by name or value.
    """

    predictions: tuple[Path, ...] = ()
    references: Path | None = None
    labels: Path | None = None
    work: Path = Path("autoseg_work")
    plan: str | None = None
    configurations: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    surfaces: Literal["voxel", "area"] = "voxel"
    tolerance_mm: float = TOLERANCE_MM
    tolerances_mm: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A set of masks: which reference each has, what values mean, and whose they are."""

    pairing: Pairing
    declared: Declared | None
    patients: Patients
    notes: tuple[str, ...] = field(default=())


def evaluate_masks(job: EvaluateJob, workers: int, progress: Progress = silent) -> SideBySide:
    """Score all that a job names; the first of several is compared with each of the others.

    Raises AutosegError for metrics and classes that there are not, masks without a reference,
    pairs that do not cover the same voxels, and where nothing is trained.
    """
    metrics = chosen_metrics(job.metrics)
    subjects = _given(job) if job.predictions or job.references else dict(_held_out(job))
    evaluations = {
        name: _evaluated(subject, metrics, job, workers, progress)
        for name, subject in subjects.items()
    }
    return side_by_side(evaluations)


def _evaluated(
    subject: _Subject,
    metrics: tuple[str, ...],
    job: EvaluateJob,
    workers: int,
    progress: Progress,
) -> Evaluation:
    labels = None if subject.declared is None else subject.declared.labels
    scoring = Scoring(metrics, _convention(job, subject.declared), subject.patients.of_case)
    evaluation = evaluate_pairs(subject.pairing.pairs, labels, workers, progress, scoring)
    told = with_sources(evaluation, subject.pairing, subject.declared)
    notes = (*subject.notes, *told.notes, *subject.patients.notes)
    return told.model_copy(update={"notes": notes})


def _convention(job: EvaluateJob, declared: Declared | None) -> Convention:
    """As the job says; of tolerances that it does not name, as the dataset does."""
    labels = None if declared is None else declared.labels
    stated: Mapping[str, float] = {}
    if declared is not None and labels is not None:
        stated = tolerances_by_class(declared.tolerances_mm, labels, declared.source)
    given = tolerances_by_class(job.tolerances_mm, labels, "--tolerance")
    return Convention(
        surfaces=job.surfaces,
        tolerance_mm=job.tolerance_mm,
        tolerances_mm={**stated, **given},
    )


def _given(job: EvaluateJob) -> dict[str, _Subject]:
    """The folders or files that a job names."""
    if job.references is None:
        raise AutosegError(
            f"{job.predictions[-1]}: masks of what? Give the folder of references after them."
        )
    given = read_labels_of(job.labels) if job.labels else None
    declared = given or find_labels(job.predictions[0], job.references, job.work)
    subjects = {}
    for name, path in _named(job.predictions).items():
        pairing = pair_masks(path, job.references)
        references = {case_id: truth for case_id, (_, truth) in pairing.pairs.items()}
        subjects[name] = _Subject(pairing, declared, find_patients(references, job.work))
    return subjects


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Predictions by the names of their folders, or of the nearest ones above that differ."""
    names = [label_name(path) if path.is_file() else path.resolve().name for path in paths]
    above = [path.resolve().parts[:-1] for path in paths]
    while len(set(names)) < len(names) and all(above):
        names, above = [parts[-1] for parts in above], [parts[:-1] for parts in above]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise AutosegError(f"{twice[0]}: these masks are given twice. Give each folder once.")
    return dict(zip(names, paths, strict=True))


def _held_out(job: EvaluateJob) -> Iterator[tuple[str, _Subject]]:
    """What each configuration's finished folds held out, those of the recommended one first."""
    work = WorkFolder(job.work)
    plan = work.plan(job.plan)
    dataset = planned_dataset(work, plan)
    if is_away(dataset.root):
        raise AutosegError(
            f"{dataset.root}: the dataset is not there any more, so there are no references. Say "
            "where it lies now: autoseg plan NEW_PLACE, which keeps the plan, folds and models."
        )
    declared = labels_of_plan(work, plan.name)
    cases = {case.case_id: case for case in dataset.cases}
    found = False
    for name in _configurations(plan, job.configurations):
        pairing, folds = _pooled(work, plan, name, cases)
        if pairing.pairs:
            found = True
            patients = {case_id: cases[case_id].patient_id for case_id in pairing.pairs}
            count = len(work.splits().folds)
            note = f"{name}: held-out cases of fold {', '.join(folds)}, of {count} folds"
            notes = (note,) if len(folds) < count else ()
            yield name, _Subject(pairing, declared, Patients(patients), notes)
    if not found:
        raise AutosegError(
            f"{work.plan_models(plan.name)}: no fold is trained and scored yet, so there is "
            "nothing to evaluate. Run `autoseg train` first, or give folders of masks and of "
            "references."
        )


def _configurations(plan: Plan, asked: Sequence[str]) -> list[ConfigurationName]:
    if asked:
        return [plan.configuration(name).name for name in dict.fromkeys(asked)]
    others = [name for name in plan.configurations if name != plan.recommended]
    return [plan.recommended, *others]


def _pooled(
    work: WorkFolder, plan: Plan, name: ConfigurationName, cases: Mapping[str, Case]
) -> tuple[Pairing, list[str]]:
    """The masks of all finished folds of a configuration, and the folds' numbers."""
    pairs: dict[str, tuple[Path, Path]] = {}
    folds, missing = [], []
    for number, fold in enumerate(work.splits().folds):
        folder = work.fold(plan.name, name, number)
        if not folder.summary.is_file():
            continue
        folds.append(str(number))
        for case_id in fold.validation:
            label = cases[case_id].label if case_id in cases else None
            if label is None or not folder.mask(case_id).is_file():
                missing.append(case_id)
            else:
                pairs[case_id] = folder.mask(case_id), label
    notes = (f"{', '.join(missing)}: held out, but without a mask or label now",) if missing else ()
    return Pairing(dict(sorted(pairs.items())), (), notes), folds
