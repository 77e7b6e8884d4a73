"""Packing: all models that predict together, and how, in one file."""

from dataclasses import dataclass
from pathlib import Path

from autoseg.checkpoint import read_card, save_pack
from autoseg.errors import AutosegError
from autoseg.machine import GIB
from autoseg.pipeline.selected import models_to_use, read_selection
from autoseg.postprocessing.recipe import Recipe
from autoseg.postprocessing.steps import describe
from autoseg.work_folder import WorkFolder

ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class Packed:
    """A file that was written, what is in it, and its size."""

    path: Path
    models: tuple[str, ...]
    recipe: Recipe
    size_bytes: int

    def in_a_line(self) -> str:
        count = f"{len(self.models)} {'model' if len(self.models) == 1 else 'models'}"
        steps = ", ".join(describe(step) for step in self.recipe.steps)
        corrected = f", masks corrected: {steps}" if steps else ""
        size = f"{self.size_bytes / GIB * 1024:.1f} MiB"
        return f"Wrote {count} to {self.path} ({size}{corrected})."


def pack_models(
    root: Path, output: Path, plan: str | None = None, configuration: str | None = None
) -> Packed:
    """Pack what was selected in a work folder; or all trained folds of a plan's configuration,
    where one is named or nothing was selected.

    Raises AutosegError when a selection does not hold any more, or nothing is trained.
    """
    if output.suffix != ENDING:
        raise AutosegError(f"{output}: a pack is a file that ends in {ENDING}. Change --out.")
    work = WorkFolder(root)
    chosen = models_to_use(root, plan, configuration)
    if chosen.recipe is None and chosen.told:
        raise AutosegError(
            f"{chosen.told} Or name a --configuration, whose models are packed without it."
        )
    recipe = chosen.recipe or Recipe()
    selection = read_selection(work).model_dump(mode="json") if chosen.recipe else None
    models = {_prefix(path): path for path in chosen.models}
    save_pack(output, models, recipe, selection)
    return Packed(output, tuple(models), recipe, output.stat().st_size)


def _prefix(model: Path) -> str:
    card = read_card(model)
    fold = "all" if card.fold is None else card.fold
    return f"{card.plan_name}/{card.configuration.name}/fold_{fold}"
