"""What the values of masks mean: looked for where datasets, models and predictions say so."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import (
    declared_labels,
    declared_tolerances,
    read_description,
)
from autoseg.dataset.layouts.tidying import tidy_description
from autoseg.errors import AutosegError
from autoseg.planning.plan import read_plan
from autoseg.work_folder import WorkFolder

DESCRIPTION = "dataset.json"


@dataclass(frozen=True, slots=True)
class Declared:
    """A label scheme, and where it was found; or why what was found could not be used.

    `tolerances_mm` of the normalised surface Dice are those that are stated beside it, by name.
    """

    labels: LabelScheme | None
    source: str
    tolerances_mm: dict[str, float] = field(default_factory=dict)


def read_labels_of(path: Path) -> Declared:
    """What a dataset.json, a plan, a model, or the folder of a dataset or of work declares.

    Raises AutosegError when it declares none.
    """
    if path.is_dir() and (path / "work.json").is_file():
        return labels_of_plan(WorkFolder(path), None)
    if path.is_dir() and not (path / DESCRIPTION).is_file():
        raise AutosegError(
            f"{path}: neither {DESCRIPTION} nor a plan is in this folder. Give a {DESCRIPTION}, a "
            "model or a work folder."
        )
    path = path / DESCRIPTION if path.is_dir() else path
    if path.suffix == ".safetensors":
        from autoseg.checkpoint import read_card  # torch takes seconds to import

        return Declared(read_card(path).labels, str(path))
    content = read_description(path)
    if "configurations" in content and "rule_set" in content:
        return Declared(read_plan(path).labels, str(path))
    tidy = tidy_description(path, [])
    return Declared(declared_labels(tidy, path), str(path), declared_tolerances(tidy, path))


def labels_of_plan(work: WorkFolder, plan: str | None) -> Declared:
    """What the plan of a name, or the current one, declares, and the dataset that it is of."""
    declared = Declared(work.plan(plan).labels, f"the plan of {work.root}")
    dataset = work.dataset()
    path = None if dataset is None else dataset / DESCRIPTION
    if path is None or not path.is_file():
        return declared
    return replace(declared, tolerances_mm=declared_tolerances(read_description(path), path))


def find_labels(predictions: Path, references: Path, work: Path) -> Declared | None:
    """What is declared for two folders, or files, without anyone saying where.

    Looked at are dataset.json in and beside the references, then the plan of a work folder whose
    dataset the references are of, then dataset.json in the predictions, where nnU-Net writes it.
    """
    truth = references.parent if references.is_file() else references
    masks = predictions.parent if predictions.is_file() else predictions
    for path in _places(truth, masks, work):
        try:
            return read_labels_of(path)
        except AutosegError as error:
            return Declared(None, str(error))
    return None


def description_of(folder: Path) -> Path | None:
    """The dataset.json in a folder of masks, or beside it."""
    places = [place / DESCRIPTION for place in (folder, folder.resolve().parent)]
    return next((path for path in places if path.is_file()), None)


def _places(truth: Path, masks: Path, work: Path) -> Iterator[Path]:
    if (path := description_of(truth)) is not None:
        yield path
    dataset = WorkFolder(work).dataset()
    if dataset is not None and Path(dataset) in (truth.resolve(), *truth.resolve().parents):
        yield work
    if (masks / DESCRIPTION).is_file():
        yield masks / DESCRIPTION
