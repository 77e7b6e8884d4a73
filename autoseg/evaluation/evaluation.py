"""The scores of a set of masks, as they are saved."""

from pydantic import Field

from autoseg.evaluation.metrics import Score
from autoseg.records import Record

EMPTY_RULE = (
    "a class absent from both masks has no Dice and is left out of the means; "
    "absent from only one of them it has Dice 0"
)


class Evaluation(Record):
    """Scores by case id and label value, or name of a region; class means are over cases, the mean
    is over classes.

    `names` are those of label values, where they are known; `labels_from` says by whom. `notes` are
    what a reader of the scores should know.
    """

    mean: Score
    classes: dict[str, Score]
    cases: dict[str, dict[str, Score]]
    references_without_mask: tuple[str, ...] = ()
    empty_rule: str = EMPTY_RULE
    names: dict[str, str] = Field(default_factory=dict)
    labels_from: str | None = None
    notes: tuple[str, ...] = ()
