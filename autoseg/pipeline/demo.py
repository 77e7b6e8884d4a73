"""The main job from end to end on synthetic scans."""

import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.dataset.synthetic import LABELS, make_scan, write_dataset, write_scan
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_folders
from autoseg.evaluation.evaluation import Evaluation
from autoseg.machine import available_cores
from autoseg.parallel import Progress, silent
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.pictures import Pictured, read_mosaic
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.predict import PredictJob, predict_files
from autoseg.pipeline.report import gather
from autoseg.pipeline.train import train_fold
from autoseg.reporting.content import Scored
from autoseg.reporting.mosaic import MosaicSlices
from autoseg.reporting.report import write_report
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, WorkFolder

if TYPE_CHECKING:
    from autoseg.training.metrics_log import TrainingListener

TRAINING_SCANS = 20
UNSEEN_SCANS = 5
UNSEEN_SEED = 1000
DATASET = "dataset"
PARTS = ("masks", "scans", "references")
MARKER = ".autoseg_demo"  # says that a folder was made by the demo, and may be replaced


def run_demo(
    folder: Path, minutes: float, listener: "TrainingListener", progress: Progress = silent
) -> tuple[Evaluation, dict[str, str], Path]:
    """Make scans, plan, train, predict scans that were never seen, score them, write a report.

    An earlier demo in the folder is replaced; any other folder that is not empty is refused.
    Returns the scores, the class names by value, and where the report is.
    """
    work = WorkFolder(folder / "autoseg_work")
    _make_room(folder, work)
    _write_scans(folder)
    masks, scans, references = (folder / part for part in PARTS)
    plan_dataset(PlanJob(dataset=folder / DATASET, work=work.root), available_cores(), progress)
    job = TrainJob(fold=0, work=work.root, budget=Budget(seconds=60 * minutes))
    result = train_fold(job, listener, Event(), progress)
    models = (FoldFolder(result.folder).model,)
    predict_files(
        PredictJob(inputs=(scans,), output=masks, models=models, overwrite=True), progress
    )
    evaluation = evaluate_folders(masks, references, 1, progress)
    names = {str(value): name for name, value in LABELS.items()}
    answer = Scored(
        name="unseen scans",
        what=f"{UNSEEN_SCANS} scans that the network never saw, after {result.seconds / 60:.1f} "
        f"minutes ({result.iterations} iterations) of training",
        evaluation=evaluation.model_copy(update={"names": names}),
        mosaics=[_show(folder, f"scan_{index}") for index in range(UNSEEN_SCANS)],
    )
    return evaluation, names, _write_page(folder, work, answer, progress)


def _make_room(folder: Path, work: WorkFolder) -> None:
    """Remove an earlier demo. Raises AutosegError where there is something else, or in use."""
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise AutosegError(
            f"{folder}: this folder holds other files, which the demo would replace. Give it a "
            "folder of its own."
        )
    work.check_not_training()
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for part in (folder / DATASET, *(folder / name for name in PARTS), work.root):
        shutil.rmtree(part, ignore_errors=True)


def _write_scans(folder: Path) -> None:
    """A dataset to learn from, and scans with references that it does not hold."""
    _, scans, references = (folder / part for part in PARTS)
    write_dataset(folder / DATASET, TRAINING_SCANS)
    for index in range(UNSEEN_SCANS):
        scan = make_scan(UNSEEN_SEED + index)
        write_scan(scans / f"scan_{index}.nii.gz", scan.image, scan)
        write_scan(references / f"scan_{index}.nii.gz", scan.labels, scan)


def _write_page(folder: Path, work: WorkFolder, answer: Scored, progress: Progress) -> Path:
    """The report of the work folder, which begins with the answer."""
    content = gather(work, work.plan(None), progress)
    scored = [answer, *content.scored]
    page = folder / "report.html"
    write_report(replace(content, title="autoseg demo", scored=scored, answer=answer), page)
    return page


def _show(folder: Path, name: str) -> MosaicSlices:
    mask, scan, truth = (folder / part / f"{name}.nii.gz" for part in PARTS)
    return read_mosaic(Pictured(name, mask, scan, truth, {n: (v,) for n, v in LABELS.items()}))
