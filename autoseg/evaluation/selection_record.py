"""What is saved as selection.json: which models predict, what corrects their masks, and why."""

from typing import Literal

from autoseg.evaluation.calibration import Reliability
from autoseg.evaluation.patients import Interval
from autoseg.evaluation.selection import ScoredCandidate
from autoseg.postprocessing.quality import QualityModel
from autoseg.postprocessing.recipe import Recipe, member_name
from autoseg.postprocessing.steps import Step, describe
from autoseg.postprocessing.sureness import ObjectSureness
from autoseg.records import Record
from autoseg.version import __version__

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
    what Dice is to be expected of masks, None where too few were there to tell; and whether the
    probabilities are what they say, pooled over cases, empty where that is not known of all; and of
    things what their scores are worth, where that is known."""

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
    reliability: tuple[Reliability, ...] = ()
    sureness: ObjectSureness | None = None
    notes: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            members=tuple(member_name(m.plan, m.configuration) for m in self.members),
            steps=tuple(reported.step for reported in self.postprocessing.steps),
            quality=self.quality,
            sureness=self.sureness,
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
