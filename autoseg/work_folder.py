"""The work folder: where plans, prepared images and models of one dataset lie."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset, LayoutName
from autoseg.dataset.splits import Fold, Splits, given_splits, make_splits
from autoseg.errors import AutosegError
from autoseg.images.volume import WRITTEN_ENDING
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import FORMAT_VERSION, Plan, read_plan
from autoseg.records import Record, load_record, parse_record, read_json, save_record

FoldName = int | None  # None: every case is trained on


class WorkState(Record):
    """`work.json`: the dataset, the machine that was planned for, and the plan in use."""

    dataset: str
    layout: LayoutName
    machine: Machine
    current_plan: str
    format_version: int = FORMAT_VERSION


PROVENANCE = "provenance.jsonl"  # beside masks


def mask_path(folder: Path, case_id: str) -> Path:
    """Where the mask of a case is written in a folder of masks."""
    return folder / f"{case_id}{WRITTEN_ENDING}"


@dataclass(frozen=True, slots=True)
class FoldFolder:
    """Names of everything in the folder of one fold's training."""

    root: Path

    @property
    def model(self) -> Path:
        """The model: weights and card."""
        return self.root / "model.safetensors"

    @property
    def best(self) -> Path:
        """The model that was best on its held-out patches, where that was asked for."""
        return self.root / "best.safetensors"

    @property
    def run(self) -> Path:
        """What this fold runs, and what of the plan this machine had to change."""
        return self.root / "run.json"

    @property
    def metrics(self) -> Path:
        """A line for each epoch."""
        return self.root / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        """The picture of the metrics."""
        return self.root / "progress.png"

    @property
    def examples(self) -> Path:
        """Held-out patches with their predictions."""
        return self.root / "examples.png"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def resume(self) -> Path:
        """The folder of what a training goes on from."""
        return self.root / "resume"

    @property
    def state(self) -> Path:
        return self.resume / "state.safetensors"

    @property
    def previous_state(self) -> Path:
        return self.resume / "previous.safetensors"

    @property
    def validation(self) -> Path:
        """The folder of masks of the held-out cases."""
        return self.root / "validation"

    @property
    def summary(self) -> Path:
        """The scores of the held-out cases; a fold that has them is finished."""
        return self.validation / "summary.json"

    @property
    def provenance(self) -> Path:
        return self.validation / PROVENANCE

    def mask(self, case_id: str) -> Path:
        """The mask of a held-out case."""
        return mask_path(self.validation, case_id)

    def clear(self) -> None:
        """Delete an earlier training, but not what is to be run now."""
        for path in (
            self.metrics, self.model, self.best, self.progress, self.examples, self.state,
            self.previous_state,
        ):  # fmt: skip
            path.unlink(missing_ok=True)
        for folder in (self.validation, self.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Names of everything in a work folder; reads and writes its small files."""

    root: Path

    def state(self) -> WorkState:
        """Raises AutosegError when nothing has been planned here yet."""
        if not (self.root / "work.json").is_file():
            raise AutosegError(
                f"{self.root}: nothing is planned here yet. Run `autoseg plan DATASET` first, or "
                "name the work folder with --work."
            )
        content = read_json(self.root / "work.json")
        if not isinstance(content, dict) or content.get("format_version", 1) != FORMAT_VERSION:
            raise AutosegError(
                f"{self.root}: another version of autoseg made this work folder. Plan again with "
                "--overwrite, which deletes the models of a plan that it replaces, or choose "
                "another folder with --work."
            )
        return parse_record(WorkState, content, str(self.root / "work.json"))

    def save_state(self, state: WorkState) -> None:
        save_record(state, self.root / "work.json")

    def dataset(self) -> str | None:
        """The dataset that the folder belongs to, whatever version of autoseg made it."""
        path = self.root / "work.json"
        content = read_json(path) if path.is_file() else None
        return content.get("dataset") if isinstance(content, dict) else None

    def is_planned(self) -> bool:
        return (self.root / "work.json").is_file()

    def plan_path(self, name: str) -> Path:
        return self.root / "plans" / f"{name}.json"

    def plan(self, name: str | None) -> Plan:
        """The plan of a name, or the current one."""
        chosen = name or self.state().current_plan
        path = self.plan_path(chosen)
        if not path.is_file():
            known = sorted(p.stem for p in (self.root / "plans").glob("*.json"))
            raise AutosegError(
                f"{path}: there is no plan {chosen!r} here. Plans: {', '.join(known) or 'none'}."
            )
        return read_plan(path)

    def save_plan(self, plan: Plan) -> None:
        save_record(plan, self.plan_path(plan.name))

    def fingerprint(self) -> Fingerprint:
        return load_record(Fingerprint, self.root / "fingerprint.json")

    def save_fingerprint(self, fingerprint: Fingerprint) -> None:
        save_record(fingerprint, self.root / "fingerprint.json")

    def splits(self) -> Splits:
        """The folds. Raises AutosegError when nothing has been planned here yet."""
        self.state()
        return self.read_splits()

    def read_splits(self) -> Splits:
        return load_record(Splits, self.root / "splits.json")

    def save_splits(self, splits: Splits) -> None:
        save_record(splits, self.root / "splits.json")

    def has_splits(self) -> bool:
        return (self.root / "splits.json").is_file()

    def make_way_for(self, plan: Plan, overwrite: bool) -> None:
        """Refuse to change a plan under models that were trained with it; or delete them."""
        if not self.plan_path(plan.name).is_file() or not self.has_models(plan.name):
            return
        try:
            if self.plan(plan.name).configurations == plan.configurations:
                return
        except AutosegError:  # of an older autoseg, or damaged
            if not overwrite:
                raise
        if not overwrite:
            raise AutosegError(
                f"{self.plan_models(plan.name)} holds models of another plan named {plan.name!r}. "
                "Keep them and give the new plan a --name, or delete them with --overwrite."
            )
        self.delete_models(plan.name)

    def keep_or_make_splits(
        self, dataset: Dataset, fingerprint: Fingerprint, overwrite: bool
    ) -> None:
        """Folds stay as they are, edited by the user or not, while the cases are the same."""
        patients = {case.case_id: case.patient_id for case in dataset.cases}
        if dataset.folds:
            splits = given_splits(list(patients), dataset.folds)
        else:
            values = set(fingerprint.labels.values[1:])
            present = {c.case_id: values & c.label_voxels.keys() for c in fingerprint.cases}
            splits = make_splits(patients, present)
        if self.has_splits():
            kept = self.read_splits()
            mixed = kept.mixed_patients(patients)
            if mixed and not overwrite:
                raise AutosegError(
                    f"{self.root / 'splits.json'}: {', '.join(sorted(mixed)[:5])} are both trained "
                    "on and held out in one fold. Make new folds with --overwrite."
                )
            if kept.case_ids() == splits.case_ids() and not mixed:
                return
            if not overwrite:
                raise AutosegError(
                    f"{self.root / 'splits.json'} is of other cases than the dataset has now. Make "
                    "new folds with --overwrite (models trained on the old ones have seen other "
                    "cases), or choose another work folder with --work."
                )
        self.save_splits(splits)

    def fold_cases(self, dataset: Dataset, fold: FoldName) -> Fold:
        """The cases to train on and those held out.

        Raises AutosegError when there is no such fold, or its cases are no longer in the dataset.
        """
        if fold is None:
            return Fold(train=tuple(case.case_id for case in dataset.cases), validation=())
        self.check_fold(fold)
        gone = self.splits().case_ids() - {case.case_id for case in dataset.cases}
        if gone:
            raise AutosegError(
                f"{', '.join(sorted(gone))}: in the folds, but no longer in the dataset. Put the "
                "files back, or plan again with --overwrite."
            )
        return self.splits().folds[fold]

    def check_fold(self, fold: FoldName) -> None:
        """Raises AutosegError when there is no such fold."""
        count = len(self.splits().folds)
        if fold is not None and not 0 <= fold < count:
            there_are = f"0 to {count - 1}, and all"
            if not count:
                there_are = "all, which holds nothing out, since all scans are of one patient"
            raise AutosegError(f"--fold {fold}: there is no such fold. Folds: {there_are}.")

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def inspections(self) -> Path:
        """Where what was found in each case is kept, so that no case is looked at twice."""
        return self.root / "inspected"

    def prepared(self, preparation_hash: str) -> Path:
        return self.root / "prepared" / preparation_hash

    def plan_models(self, plan_name: str) -> Path:
        return self.root / "models" / plan_name

    def has_models(self, plan_name: str) -> bool:
        return any(self.plan_models(plan_name).glob("*/fold_*/*"))

    def delete_models(self, plan_name: str) -> None:
        shutil.rmtree(self.plan_models(plan_name), ignore_errors=True)

    def fold(self, plan_name: str, configuration: ConfigurationName, fold: FoldName) -> FoldFolder:
        """The folder of one fold's training."""
        name = "all" if fold is None else str(fold)
        return FoldFolder(self.plan_models(plan_name) / configuration / f"fold_{name}")

    def previous_masks(self, plan_name: str, configuration: ConfigurationName) -> Path:
        """Where masks of a cascade's earlier stage are kept on the later one's grid."""
        return self.plan_models(plan_name) / configuration / "previous_stage"

    def trained_models(self, plan_name: str, configuration: ConfigurationName) -> list[Path]:
        """Model files of all folds that are trained."""
        folders = (self.plan_models(plan_name) / configuration).glob("fold_*")
        return sorted(path for f in folders if (path := FoldFolder(f).model).is_file())
