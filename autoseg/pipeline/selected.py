"""selection.json: reading it, and whether it still holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.evaluation.selection_record import Selection
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import load_record
from autoseg.work_folder import WorkFolder


@dataclass(frozen=True, slots=True)
class ModelsToUse:
    """Model files, how they are used, and a line about it."""

    models: tuple[Path, ...]
    recipe: Recipe | None
    told: str | None = None


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
