"""Reporting: what lies in a work folder, gathered for one page that stands on its own."""

import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.pooling import pool_folds
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.parallel import Progress, silent
from autoseg.pipeline.fitting import FoldRun
from autoseg.pipeline.pictures import Pictured, classes_of, read_mosaic
from autoseg.pipeline.prepare import is_away, planned_dataset
from autoseg.pipeline.selected import changed_models, read_selection
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import Plan
from autoseg.records import Record, load_record
from autoseg.reporting.content import (
    ReportContent,
    Scored,
    Selected,
    TrainedFold,
)
from autoseg.reporting.examples import ExampleSlice, example_scans
from autoseg.reporting.mosaic import MosaicSlices
from autoseg.reporting.ranking import telling_cases
from autoseg.reporting.report import write_report
from autoseg.version import __version__
from autoseg.work_folder import FoldFolder, WorkFolder

if TYPE_CHECKING:
    from autoseg.training.metrics_log import EpochSummary

log = logging.getLogger(__name__)

PACKAGES = ("torch", "numpy", "SimpleITK", "nibabel")


class ReportJob(Record):
    """Which plan of a work folder to report on, None the current one, and where to."""

    work: Path = Path("autoseg_work")
    plan: str | None = None
    out: Path | None = None


def report_work(
    job: ReportJob, problems: Sequence[Problem] | None = None, progress: Progress = silent
) -> Path:
    """Write the report of a work folder, however far it has come; where it is.

    Without the data set there are no pictures of scans, and the page says so. Raises AutosegError
    when nothing is planned yet.
    """
    work = WorkFolder(job.work)
    path = job.out or work.report
    if path.is_dir():
        path = path / work.report.name
    content = gather(work, work.plan(job.plan), progress)
    write_report(replace(content, problems=problems), path)
    return path


def gather(work: WorkFolder, plan: Plan, progress: Progress = silent) -> ReportContent:
    """All that there is to show of a plan."""
    fingerprint = work.fingerprint()
    dataset, no_pictures = _dataset(work, plan)
    selected, not_read = _selected(work)
    folders = {name: _fold_folders(work, plan, name) for name in plan.configurations}
    root = work.dataset()
    title = (root.name if root else "") or "autoseg"
    scored = []
    for step, (name, folds) in enumerate(folders.items()):
        progress(step, len(folders), "gathering results")
        scored += _scored(work, plan, name, folds, dataset)
    progress(len(folders), len(folders), "gathering results")
    return ReportContent(
        title=f"{title}: {plan.name}",
        asked=_question(plan, fingerprint, root),
        plan=plan,
        fingerprint=fingerprint,
        examples=_examples(dataset, fingerprint),
        folds=[_trained(name, folder) for name in folders for folder in folders[name]],
        scored=scored,
        answer=next((s for s in scored if s.name == plan.recommended), next(iter(scored), None)),
        selected=selected,
        made_on=_made_on(plan, fingerprint),
        remarks=[remark for remark in (no_pictures, not_read) if remark is not None],
    )


def _dataset(work: WorkFolder, plan: Plan) -> tuple[Dataset | None, str | None]:
    """The data set as it was planned for; or None, and why."""
    root = work.dataset()
    if root is None or is_away(root):
        return None, (
            f"The data set is not at {root} any more, so this page has no pictures of its scans."
        )
    try:
        return planned_dataset(work, plan), None
    except AutosegError as error:
        return None, f"This page has no pictures of scans: {error}"


def _question(plan: Plan, fingerprint: Fingerprint, root: Path | None) -> str:
    """What was asked, as a sentence."""
    labels = plan.labels
    names = [region.name for region in labels.regions] or labels.names[1:]
    cases, patients = len(fingerprint.cases), {case.patient_id for case in fingerprint.cases}
    channels = ", ".join(plan.channel_names)
    return (
        f"Segment {', '.join(names)} in {channels}, learnt from {cases} labelled "
        f"{'scan' if cases == 1 else 'scans'} of {len(patients)} "
        f"{'patient' if len(patients) == 1 else 'patients'} ({root})."
    )


def _examples(dataset: Dataset | None, fingerprint: Fingerprint) -> tuple[ExampleSlice, ...]:
    if dataset is None:
        return ()
    try:
        return example_scans(dataset, fingerprint)
    except AutosegError as error:
        log.warning("The report has no example slices: %s", error)
        return ()


def _fold_folders(work: WorkFolder, plan: Plan, name: ConfigurationName) -> list[FoldFolder]:
    """Folders of the folds that were begun, in order; that of all cases last."""
    folders = [work.fold(plan.name, name, fold) for fold in range(len(work.read_splits().folds))]
    folders.append(work.fold(plan.name, name, None))
    return [folder for folder in folders if folder.root.is_dir()]


def _trained(name: ConfigurationName, folder: FoldFolder) -> TrainedFold:
    fold = folder.root.name.removeprefix("fold_")
    changes = load_record(FoldRun, folder.run).changes if folder.run.is_file() else ()
    epochs = _epochs(folder.metrics)
    if not folder.model.is_file():
        return TrainedFold(name, fold, epochs, changes)
    from autoseg.checkpoint import content_hash, read_card  # torch takes seconds to import

    card, digest = read_card(folder.model), content_hash(folder.model.read_bytes())
    return TrainedFold(name, fold, epochs, changes, digest, card.autoseg_version)


def _epochs(metrics: Path) -> "list[EpochSummary]":
    """The epochs of a training; its last line may be half-written, where it is running."""
    from autoseg.training.metrics_log import EpochSummary  # torch takes seconds to import

    epochs = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []:
        try:
            epochs.append(EpochSummary.model_validate_json(line))
        except ValueError:
            continue
    return epochs


def _scored(
    work: WorkFolder,
    plan: Plan,
    name: ConfigurationName,
    folders: Sequence[FoldFolder],
    dataset: Dataset | None,
) -> list[Scored]:
    """The held-out cases of all finished folds of a configuration, taken together."""
    by_fold = {
        folder: load_record(Evaluation, folder.summary)
        for folder in folders
        if folder.summary.is_file()
    }
    if not by_fold:
        return []
    patients = {case.case_id: case.patient_id for case in work.fingerprint().cases}
    evaluation = pool_folds(list(by_fold.values()), patients)
    masks = {case: folder.mask(case) for folder, own in by_fold.items() for case in own.cases}
    mosaics, remark = _mosaics(evaluation, masks, dataset, plan)
    folds = len(by_fold)
    what = (
        f"{len(evaluation.cases)} held-out cases of {folds} of {len(work.read_splits().folds)} "
        "folds, each predicted in full by the model that has not seen it"
    )
    return [Scored(name, what, evaluation, mosaics, remark)]


def _mosaics(
    evaluation: Evaluation, masks: dict[str, Path], dataset: Dataset | None, plan: Plan
) -> tuple[list[MosaicSlices], str | None]:
    """The best, median and worst case; or why they cannot be shown."""
    if dataset is None:
        return [], "The data set is not there, so there are no pictures."
    cases = {case.case_id: case for case in dataset.cases}
    classes = classes_of(plan.labels, evaluation.classes)
    mosaics = []
    for case_id, title in telling_cases(evaluation).items():
        case = cases[case_id]
        pictured = Pictured(
            title, masks[case_id], case.files()[0], case.label, classes, plan.labels.instances
        )
        try:
            mosaics.append(read_mosaic(pictured))
        except AutosegError as error:
            return mosaics, f"A picture could not be made: {error}"
    return mosaics, None


def _selected(work: WorkFolder) -> tuple[Selected | None, str | None]:
    """What `autoseg select` wrote, or why that cannot be read; neither without a selection."""
    if not work.selection.is_file():
        return None, None
    try:
        selection = read_selection(work)
    except AutosegError as error:
        return None, f"This page does not show what was selected: {error}"
    return Selected(selection, tuple(changed_models(work, selection))), None


def _made_on(plan: Plan, fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """Names and values of what this page, and the plan, were made with."""
    voxels = blake2b(digest_size=16)
    for case in sorted(fingerprint.cases, key=lambda case: case.case_id):
        voxels.update(f"{case.case_id} {case.pixel_hash}\n".encode())
    return [
        ("autoseg", __version__),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in PACKAGES),
        ("report made on", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("planned for", _in_words(plan.machine)),
        ("plan, rule set", f"{plan.name}, {plan.rule_set}"),
        ("data (blake2b of all scans' names and voxels)", voxels.hexdigest()),
    ]


def _in_words(machine: Machine) -> str:
    gpu = "no GPU" if machine.gpu_name is None else f"GPU ({machine.gpu_memory_in_words})"
    return f"{gpu}, {machine.cores} cores, {machine.memory_gib:.4g} GiB of memory"
