"""selection.json: what was selected and why, and whether it still holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.errors import AutosegError
from autoseg.evaluation.patients import Interval
from autoseg.evaluation.selection import ScoredCandidate
from autoseg.postprocessing.quality import QualityModel
from autoseg.postprocessing.recipe import Recipe, member_name
from autoseg.postprocessing.steps import Step, describe
from autoseg.records import Record, load_record
from autoseg.version import __version__
from autoseg.work_folder import WorkFolder

FORMAT_VERSION = 1
RulesName = Literal["autoseg", "nnunet"]


class SelectedModel(Record):
    """A model file, its path from the work folder on, and blake2b of its content."""

    path: str
    hash: str


class SelectedMember(Record):
    """A configuration that was selected: models of all folds, with those of the stage before."""

    plan: str
    configuration: str
    models: tuple[SelectedModel, ...]


class ReportedStep(Record):
    """A step of post-processing, what it does in words, and what it added to the mean score."""

    step: Step
    what: str
    gain: float


class Postprocessing(Record):
    """Steps that were kept, and what they gain over all held-out cases.

    `gain` is of the cases that the steps were chosen on, which flatters; `held_out_gain` of each
    fold with steps that were chosen on the others, and None where there is a single one. `because`
    sums it up, `left_off` says of whom nothing was tried, and why.
    """

    steps: tuple[ReportedStep, ...] = ()
    before: float
    after: float
    gain: float
    gain_interval: Interval
    held_out_gain: float | None = None
    held_out_interval: Interval | None = None
    because: str
    left_off: tuple[str, ...] = ()


class Selection(Record):
    """Which models predict, and what corrects their masks; by which cross-validated scores; and
    what Dice is to be expected of masks, None where too few were there to tell."""

    format_version: int = FORMAT_VERSION
    autoseg_version: str = __version__
    rules: RulesName
    metric: str
    folds: tuple[int, ...]
    cases: int
    patients: int
    candidates: tuple[ScoredCandidate, ...]
    members: tuple[SelectedMember, ...]
    because: str
    postprocessing: Postprocessing
    quality: QualityModel | None = None
    notes: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            members=tuple(member_name(m.plan, m.configuration) for m in self.members),
            steps=tuple(reported.step for reported in self.postprocessing.steps),
            quality=self.quality,
        )

    def models(self) -> tuple[SelectedModel, ...]:
        """All model files, each once: a first stage may serve, and answer for itself too."""
        return tuple(dict.fromkeys(model for member in self.members for model in member.models))

    def in_a_line(self) -> str:
        """What predicts, and what corrects its masks."""
        steps = [describe(step) for step in self.recipe.steps]
        after = f"; then {', '.join(steps)}" if steps else ", without post-processing"
        count = len(self.models())
        return f"{' + '.join(self.recipe.members)} ({count} models){after}"


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
    changed = list(_changed(work, selection))
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


def _changed(work: WorkFolder, selection: Selection) -> Iterator[str]:
    """What became of models since."""
    from autoseg.checkpoint import content_hash  # torch takes seconds to import

    for model in selection.models():
        path = work.root / model.path
        if not path.is_file():
            yield f"{model.path} is gone"
        elif content_hash(path.read_bytes()) != model.hash:
            yield f"{model.path} was trained anew"
