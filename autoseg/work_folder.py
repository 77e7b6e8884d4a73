"""The work folder: where plans, prepared images and models of one dataset lie."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset, LayoutName
from autoseg.dataset.layouts.folds import fold_mistakes
from autoseg.dataset.splits import Fold, Splits
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.volume import WRITTEN_ENDING
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.lease import check_free
from autoseg.machine import Machine
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import FORMAT_VERSION, Plan, read_plan
from autoseg.records import Record, load_record, parse_record, read_json, save_record

FoldName = int | None  # None: every case is trained on


class WorkState(Record):
    """`work.json`: the dataset, the machine that was planned for, and the plan in use.

    The dataset's path counts from the work folder where it is relative.
    """

    dataset: str
    layout: LayoutName
    machine: Machine
    current_plan: str
    format_version: int = FORMAT_VERSION


INSTANCES = "instances"  # where numbered objects lie, beside masks or in a dataset
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

    def dataset(self) -> Path | None:
        """Where the folder's dataset lay, whatever version of autoseg wrote it down."""
        path = self.root / "work.json"
        content = read_json(path) if path.is_file() else None
        written = content.get("dataset") if isinstance(content, dict) else None
        return None if written is None else Path(os.path.normpath(self.root.resolve() / written))

    def place_of(self, dataset: Path) -> str:
        """A dataset's path as `work.json` has it: relative where both may be moved together, since
        one lies beside, or inside, the other."""
        dataset, root = dataset.resolve(), self.root.resolve()
        beside = root.parent != Path(root.anchor) and dataset.is_relative_to(root.parent)
        if beside or root.is_relative_to(dataset):
            return os.path.relpath(dataset, root)
        return str(dataset)

    def check_writable(self) -> None:
        """Raises AutosegError where the folder cannot be made, or nothing can be written to it."""
        there = self.root.absolute()
        while not there.exists() and there != there.parent:
            there = there.parent
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
        why = f"{there} cannot be written to" if there.is_dir() else f"{there} is no folder"
        raise AutosegError(
            f"{self.root}: nothing can be saved here, since {why}. Choose another work folder with "
            "--work (autoseg plan makes it), or change the permissions."
        )

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

    def plan_names(self) -> list[str]:
        """The names of all plans, the current one first."""
        names = sorted(path.stem for path in (self.root / "plans").glob("*.json"))
        current = self.state().current_plan
        return sorted(names, key=lambda name: (name != current, name))

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

    @property
    def splits_path(self) -> Path:
        """The folds, which a user may edit."""
        return self.root / "splits.json"

    def read_splits(self) -> Splits:
        return load_record(Splits, self.splits_path)

    def save_splits(self, splits: Splits) -> None:
        save_record(splits, self.splits_path)

    def has_splits(self) -> bool:
        return self.splits_path.is_file()

    def fold_cases(self, dataset: Dataset, fold: FoldName) -> Fold:
        """The cases to train on and those held out.

        Raises AutosegError when there is no such fold, its cases are no longer in the dataset, or
        any fold cannot be trained as it was edited.
        """
        if fold is None:
            return Fold(train=tuple(case.case_id for case in dataset.cases), validation=())
        self.check_fold(fold)
        splits, known = self.splits(), {case.case_id for case in dataset.cases}
        if gone := splits.case_ids() - known:
            raise AutosegError(
                f"{', '.join(sorted(gone))}: in the folds, but no longer in the dataset. Put the "
                "files back, or plan again with --overwrite."
            )
        mistakes = [
            f"{self.splits_path}: fold {number}: {mistake}"
            for number, written in enumerate(splits.folds)
            for mistake in fold_mistakes(
                {"train": written.train, "validation": written.validation}, known
            )
        ]
        fix = "Correct the file, or delete it and run `autoseg plan` again, which makes new folds."
        raise_if_any(
            [f"{mistake} {fix}" for mistake in mistakes] if len(mistakes) == 1 else mistakes,
            f"The folds cannot be trained as they are. {fix}",
        )
        return splits.folds[fold]

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
    def selection(self) -> Path:
        """Which models predict, and what corrects their masks."""
        return self.root / "selection.json"

    def held_out_record(self, case_id: str) -> Path:
        """What is known of a case's masks that were made to select; with it they are complete."""
        return self.root / "selected" / "cases" / f"{case_id}.json"

    def held_out_mask(self, members: str, case_id: str) -> Path:
        """A case's mask by the models of an ensemble that had not seen it."""
        return mask_path(self.root / "selected" / "masks" / members, case_id)

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

    def plan_lease(self, plan_name: str) -> Path:
        """The file that whoever changes a plan holds."""
        return self.root / "leases" / f"{plan_name}.json"

    def fold_lease(self, plan_name: str, folder: FoldFolder) -> Path:
        """The file that whoever trains a fold holds."""
        configuration, fold = folder.root.parts[-2:]
        return self.root / "leases" / plan_name / configuration / f"{fold}.json"

    def check_not_training(self, plan_name: str = "*", configuration: str = "*") -> None:
        """Raises AutosegError while a fold of a plan and configuration, or of any, is trained."""
        leases = f"{plan_name}/{configuration}/fold_*.json"
        for path in sorted((self.root / "leases").glob(leases)):
            fold = path.relative_to(self.root / "leases").with_suffix("")
            check_free(path, str(self.root / "models" / fold))

    def previous_masks(self, plan_name: str, configuration: ConfigurationName) -> Path:
        """Where masks of a cascade's earlier stage are kept on the later one's grid."""
        return self.plan_models(plan_name) / configuration / "previous_stage"

    def trained_models(self, plan_name: str, configuration: ConfigurationName) -> list[Path]:
        """Model files of all folds that are trained."""
        folders = (self.plan_models(plan_name) / configuration).glob("fold_*")
        return sorted(path for f in folders if (path := FoldFolder(f).model).is_file())
