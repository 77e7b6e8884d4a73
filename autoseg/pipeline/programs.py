"""The stages for programs: one function each, silent, with the words of the command line.

What the command line calls `--set`, `--like` and so on are fields of the same names in the jobs.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, overload

from autoseg.evaluation.comparison import SideBySide
from autoseg.evaluation.evaluation import Evaluation
from autoseg.machine import available_cores
from autoseg.pipeline.evaluate import EvaluateJob, evaluate_masks
from autoseg.pipeline.jobs import TrainJob, jobs_in_order
from autoseg.pipeline.plan import PlanJob, PlanOutcome, plan_dataset
from autoseg.pipeline.predict import PredictJob, PredictResult, predict_files
from autoseg.pipeline.prepare import Resources
from autoseg.pipeline.prepare import prepare as prepare_cases
from autoseg.pipeline.selected import models_to_use
from autoseg.pipeline.train import FoldResult, train_fold
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder

if TYPE_CHECKING:
    from autoseg.training.metrics_log import TrainingListener

File = str | Path
WORK = Path("autoseg_work")


def plan(dataset: File, work: File = WORK, workers: int | None = None, **job: Any) -> PlanOutcome:
    """Check a dataset and decide everything; further words are those of PlanJob."""
    asked = PlanJob(dataset=Path(dataset), work=Path(work), **job)
    return plan_dataset(asked, workers or available_cores())


def prepare(work: File = WORK, configurations: Sequence[str] = (), plan: str | None = None) -> int:
    """Put all scans on the grids of a plan's configurations; how many were missing."""
    resources = Resources(available_cores())
    done, _ = prepare_cases(WorkFolder(Path(work)), plan, configurations, resources)
    return done


def train(
    fold: int | None = 0,
    work: File = WORK,
    minutes: float | None = None,
    listener: "TrainingListener | None" = None,
    **job: Any,
) -> FoldResult:
    """Train one fold, or with None on every case, and score its held-out cases.

    Further words are those of TrainJob; in a cascade what the first stage lacks is trained before.
    """
    from autoseg.training.metrics_log import SilentListener  # torch takes seconds to import

    if minutes is not None:
        job["budget"] = Budget(seconds=60 * minutes)
    asked = TrainJob(fold=fold, work=Path(work), **job)
    *_, result = [
        train_fold(step, listener or SilentListener(), Event()) for step in jobs_in_order([asked])
    ]
    return result


def predict(
    inputs: Sequence[File],
    output: File,
    models: Sequence[File] | None = None,
    work: File = WORK,
    **job: Any,
) -> PredictResult:
    """Segment files, or all images of folders, with models, or those that were selected in a work
    folder, or else that it has.

    Further words are those of PredictJob.
    """
    if models is None:
        chosen = models_to_use(Path(work))
        job = {"recipe": chosen.recipe} | job
        models = chosen.models
    asked = PredictJob(
        inputs=tuple(map(Path, inputs)),
        output=Path(output),
        models=tuple(map(Path, models)),
        **job,
    )
    return predict_files(asked)


@overload
def evaluate(
    predictions: File, references: File, workers: int | None = None, **job: Any
) -> Evaluation: ...
@overload
def evaluate(
    predictions: Sequence[File] = (),
    references: File | None = None,
    workers: int | None = None,
    **job: Any,
) -> SideBySide: ...
def evaluate(
    predictions: File | Sequence[File] = (),
    references: File | None = None,
    workers: int | None = None,
    **job: Any,
) -> Evaluation | SideBySide:
    """Score every mask of a folder against the reference of the same name, or two files.

    A sequence of folders is scored side by side, the first compared with each of the others; none
    scores what the trained folds of the work folder held out, each configuration side by side.
    Further words are those of EvaluateJob.
    """
    is_one = isinstance(predictions, str | Path)
    masks = [predictions] if isinstance(predictions, str | Path) else predictions
    asked = EvaluateJob(
        predictions=tuple(map(Path, masks)),
        references=None if references is None else Path(references),
        **job,
    )
    outcome = evaluate_masks(asked, workers or available_cores())
    return next(iter(outcome.evaluations.values())) if is_one else outcome
