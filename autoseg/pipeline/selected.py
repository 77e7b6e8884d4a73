"""Which models are used: those of selection.json while it holds, or all that are trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.evaluation.selection_record import Selection
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import load_record
from autoseg.work_folder import FoldFolder, WorkFolder


@dataclass(frozen=True, slots=True)
class ModelsToUse:
    """Model files, how they are used, and a line about it."""

    models: tuple[Path, ...]
    recipe: Recipe | None
    told: str | None = None


def models_to_use(
    root: Path, plan_name: str | None = None, configuration_name: str | None = None
) -> ModelsToUse:
    """What was selected in a work folder; else, or where a plan or configuration is named, its
    trained models.

    A selection that is of other models than there are now is not followed, and that is told. Raises
    AutosegError as `trained_models` does.
    """
    told = None
    if plan_name is None and configuration_name is None:
        selected = selected_models(WorkFolder(root))
        if selected is not None and selected.recipe is not None:
            return selected
        told = None if selected is None else selected.told
    try:
        models = trained_models(root, plan_name, configuration_name)
    except AutosegError as error:
        raise AutosegError(f"{error} {told or ''}".strip()) from None
    return ModelsToUse(tuple(models), None, told)


def trained_models(
    root: Path, plan_name: str | None = None, configuration_name: str | None = None
) -> list[Path]:
    """Model files of a work folder's plan, the first stage of a cascade among them.

    Raises AutosegError when nothing is planned there, or trained yet.
    """
    work = WorkFolder(root)
    if not work.root.is_dir():
        raise AutosegError(
            f"{work.root}: nothing is planned here yet. Run `autoseg plan DATASET` first, or "
            "name the work folder with --work, or model files with --model."
        )
    plan = work.plan(plan_name)
    configuration = plan.configuration(configuration_name)
    models = work.trained_models(plan.name, configuration.name)
    if not models:
        raise AutosegError(
            f"{work.root}: no {configuration.name} model of plan {plan.name!r} is trained "
            f"yet. Run `autoseg train` first, or name model files with --model{_others(work)}."
        )
    if configuration.previous_stage is not None:
        models += work.trained_models(plan.name, configuration.previous_stage)
    return models


def _others(work: WorkFolder) -> str:
    """What else is trained, and could be meant."""
    files = (path for name in work.plan_names() for path in _model_files(work.plan_models(name)))
    found = dict.fromkeys(f"{file.parts[-4]}/{file.parts[-3]}" for file in files)
    return f", or one of {', '.join(found)} with --plan and --configuration" if found else ""


def _model_files(models: Path) -> list[Path]:
    """Of all configurations and folds of a plan."""
    return sorted(f.model for f in map(FoldFolder, models.glob("*/fold_*")) if f.model.is_file())


def selected_models(work: WorkFolder) -> ModelsToUse | None:
    """What was selected in a work folder, or why it does not hold any more; None without any."""
    if not work.selection.is_file():
        return None
    selection = read_selection(work)
    changed = list(changed_models(work, selection))
    if changed:
        return ModelsToUse(
            (),
            None,
            f"{work.selection} is not followed, since it is of other models: {'; '.join(changed)}. "
            "Run `autoseg select` again.",
        )
    return ModelsToUse(
        tuple(work.root / model.path for model in selection.models()),
        selection.recipe,
        f"As selected: {selection.in_a_line()}.",
    )


def read_selection(work: WorkFolder) -> Selection:
    """Raises AutosegError when nothing is selected, or by another version."""
    if not work.selection.is_file():
        raise AutosegError(f"{work.root}: nothing is selected yet. Run `autoseg select` first.")
    try:
        return load_record(Selection, work.selection)
    except AutosegError as error:
        raise AutosegError(f"{error} Run `autoseg select` again, or delete the file.") from None


def changed_models(work: WorkFolder, selection: Selection) -> Iterator[str]:
    """What became of a selection's models since; nothing where it holds."""
    from autoseg.checkpoint import content_hash  # torch takes seconds to import

    for model in selection.models():
        path = work.root / model.path
        if not path.is_file():
            yield f"{model.path} is gone"
        elif content_hash(path.read_bytes()) != model.hash:
            yield f"{model.path} was trained anew"
