"""The main job from end to end on synthetic scans."""

import shutil
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.dataset.synthetic import LABELS, make_scan, write_dataset, write_scan
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_folders
from autoseg.evaluation.evaluation import Evaluation
from autoseg.images.volume import read_image, read_labels
from autoseg.machine import available_cores
from autoseg.parallel import Progress, silent
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.predict import PredictJob, predict_files
from autoseg.pipeline.train import train_fold
from autoseg.reporting.mosaic import MosaicScan
from autoseg.reporting.report import ReportContent, write_report
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, WorkFolder

if TYPE_CHECKING:
    from autoseg.training.metrics_log import TrainingListener

TRAINING_SCANS = 20
UNSEEN_SCANS = 5
UNSEEN_SEED = 1000
MARKER = ".autoseg_demo"  # says that a folder was made by the demo, and may be replaced


def run_demo(
    folder: Path, minutes: float, listener: "TrainingListener", progress: Progress = silent
) -> tuple[Evaluation, dict[str, str], Path]:
    """Make scans, plan, train, predict scans that were never seen, score them, write a report.

    An earlier demo in the folder is replaced; any other folder that is not empty is refused.
    Returns the scores, the class names by value, and where the report is.
    """
    dataset, unseen, truth = folder / "dataset", folder / "scans", folder / "references"
    work = WorkFolder(folder / "autoseg_work")
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise AutosegError(
            f"{folder}: this folder holds other files, which the demo would replace. Give it a "
            "folder of its own."
        )
    work.check_not_training()
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for part in (dataset, unseen, truth, folder / "masks", work.root):
        shutil.rmtree(part, ignore_errors=True)
    write_dataset(dataset, TRAINING_SCANS)
    for index in range(UNSEEN_SCANS):
        scan = make_scan(UNSEEN_SEED + index)
        write_scan(unseen / f"scan_{index}.nii.gz", scan.image, scan)
        write_scan(truth / f"scan_{index}.nii.gz", scan.labels, scan)
    plan_dataset(PlanJob(dataset=dataset, work=work.root), available_cores(), progress)
    job = TrainJob(fold=0, work=work.root, budget=Budget(seconds=60 * minutes))
    result = train_fold(job, listener, Event(), progress)
    trained = FoldFolder(result.folder)
    predict_job = PredictJob(
        inputs=(unseen,), output=folder / "masks", models=(trained.model,), overwrite=True
    )
    predict_files(predict_job, progress)
    evaluation = evaluate_folders(folder / "masks", truth, 1, progress)
    names = {str(value): name for name, value in LABELS.items()}
    content = ReportContent(
        title="autoseg demo",
        introduction=f"A network trained for {result.seconds / 60:.1f} minutes "
        f"({result.iterations} iterations) on {TRAINING_SCANS} synthetic scans, applied to "
        f"{UNSEEN_SCANS} scans that it never saw.",
        evaluation=evaluation,
        names=names,
        scans=[_show(folder, f"scan_{index}") for index in range(UNSEEN_SCANS)],
        curves=trained.progress,
    )
    write_report(content, folder / "report.html")
    return evaluation, names, folder / "report.html"


def _show(folder: Path, name: str) -> MosaicScan:
    image = read_image(folder / "scans" / f"{name}.nii.gz")
    return MosaicScan(
        title=name,
        image=image.array[0],
        mask=read_labels(folder / "masks" / f"{name}.nii.gz").array,
        reference=read_labels(folder / "references" / f"{name}.nii.gz").array,
        spacing_mm=image.grid.spacing_mm,
    )
