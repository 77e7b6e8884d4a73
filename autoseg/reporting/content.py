"""What a report shows; what a work folder does not have yet is empty or None."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoseg.dataset.problems import Problem
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.selection_record import Selection
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.plan import Plan
from autoseg.reporting.charts import colour_of
from autoseg.reporting.examples import ExampleSlice
from autoseg.reporting.mosaic import MosaicSlices

if TYPE_CHECKING:
    from autoseg.training.metrics_log import EpochSummary


@dataclass(frozen=True, slots=True)
class TrainedFold:
    """One fold of a configuration: how it went, and what of the plan this machine changed.

    `model_hash` is the blake2b hash of the model file, `made_with` autoseg's version then; both
    are None until the fold is finished.
    """

    configuration: str
    fold: str
    epochs: "Sequence[EpochSummary]"
    changes: Sequence[str] = ()
    model_hash: str | None = None
    made_with: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a set of masks, such as a configuration's cross-validation.

    `mosaics` are scans with the masks and references; `remark` says why there are none.
    """

    name: str
    what: str
    evaluation: Evaluation
    mosaics: Sequence[MosaicSlices] = ()
    remark: str | None = None

    def class_name(self, key: str) -> str:
        """What a class, by which scores are listed, is called."""
        return self.evaluation.names.get(key, key)

    def class_colours(self) -> dict[str, str]:
        return {key: colour_of(order) for order, key in enumerate(self.evaluation.classes)}

    def legend(self) -> list[tuple[str, str]]:
        """Colour and name of each class."""
        return [(colour, self.class_name(key)) for key, colour in self.class_colours().items()]


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected, and what became of its models since: with anything it is not followed."""

    selection: Selection
    changed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportContent:
    """A data set, its plan, and all that was made with it so far.

    `asked` is the question as a sentence, and `answer` the scores that answer it. `made_on` names
    the versions and hashes of software and data; `problems` are what `check` has to say, None where
    nobody asked.
    """

    title: str
    asked: str
    plan: Plan
    fingerprint: Fingerprint
    examples: tuple[ExampleSlice, ...] = ()
    problems: Sequence[Problem] | None = None
    folds: Sequence[TrainedFold] = ()
    scored: Sequence[Scored] = ()
    answer: Scored | None = None
    selected: Selected | None = None
    made_on: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()
