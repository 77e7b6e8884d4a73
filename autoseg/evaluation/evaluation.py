"""The scores of a set of masks, as they are saved."""

from collections.abc import Mapping

from pydantic import Field

from autoseg.evaluation.detection import Froc
from autoseg.evaluation.mask_pair import Convention
from autoseg.evaluation.metrics import METRICS, Better, Empty, Score
from autoseg.evaluation.statistics import FEWEST_PATIENTS, Counts, Statistics
from autoseg.records import Record

EMPTY_RULE = (
    "a class absent from both masks has no Dice and is left out of the means; "
    "absent from only one of them it has Dice 0"
)
INTERVAL_RULE = (
    "95 % confidence intervals of means: bias-corrected and accelerated bootstrap of patients, "
    f"each drawn with all of its scans; with fewer than {FEWEST_PATIENTS} they are too narrow; "
    "pooled_intervals are of the pooled values, those of statistics of means over single scans"
)
ACCURACY_RULE = (
    "mean.pixel_accuracy is the share of voxels with the right label among all classes, averaged "
    "over cases; that of a class asks only whether voxels belong to it"
)


class MetricNote(Record):
    """What a reader must know of a metric; `better` is the good end of the scale, if any.

    `both_empty`, `one_empty` and `penalty` say what is taken where masks are empty: a number,
    `undefined`, `measured`, or the `diagonal` of the scan in mm. What is `pooled` looks at all
    scans together for `classes` and `mean`; its statistics are of single scans.
    """

    formula: str
    unit: str
    better: Better | None
    both_empty: float | str
    one_empty: float | str
    penalty: float | str
    pooled: bool = False


class Evaluation(Record):
    """Scores by case id and label value, or name of a region; class means are over cases, the mean
    is over classes.

    `statistics` and `mean_statistics` say more of the same means, `counts` how often a class is
    absent. `penalties` are scores that penalised means count where `cases` has none. Overlaps of
    all classes together are `pixel_accuracy` by case. `names` are those of label values, where they
    are known; `labels_from` says by whom. `patients` are by case. `froc` is of all scans together,
    of classes whose probabilities are there. `pooled_intervals` are 95 % intervals of metrics
    that look at all scans together. `notes` are what a reader of the scores should know.
    """

    mean: Score
    classes: dict[str, Score]
    cases: dict[str, dict[str, Score]]
    references_without_mask: tuple[str, ...] = ()
    empty_rule: str = EMPTY_RULE
    names: dict[str, str] = Field(default_factory=dict)
    labels_from: str | None = None
    notes: tuple[str, ...] = ()
    counts: dict[str, Counts] = Field(default_factory=dict)
    mean_statistics: dict[str, Statistics] = Field(default_factory=dict)
    statistics: dict[str, dict[str, Statistics]] = Field(default_factory=dict)
    penalties: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    pixel_accuracy: dict[str, float] = Field(default_factory=dict)
    froc: dict[str, Froc] = Field(default_factory=dict)
    pooled_intervals: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    mean_pooled_intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    patients: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, MetricNote] = Field(default_factory=dict)
    convention: Convention | None = None
    interval_rule: str = INTERVAL_RULE
    accuracy_rule: str = ACCURACY_RULE

    def title_of(self, name: str) -> str:
        """A class as people call it: its value with its name, where that is known."""
        return f"{name} {self.names[name]}" if name in self.names else name

    def interval_95(self, name: str | None, metric: str) -> tuple[float, float] | None:
        """Of what is said of a class, or without a name of their mean."""
        if METRICS[metric].pooled is not None:
            pooled = self.pooled_intervals.get(name, {}) if name else self.mean_pooled_intervals
            return pooled.get(metric)
        found = self.statistics.get(name, {}) if name else self.mean_statistics
        return found[metric].interval_95 if metric in found else None

    def score(self, case_id: str, name: str, metric: str) -> float | None:
        """With the penalty where the class is in one mask alone and the score is not defined."""
        score = self.cases[case_id][name].get(metric)
        if score is not None:
            return score
        return self.penalties.get(case_id, {}).get(name, {}).get(metric)


def metric_notes(names: tuple[str, ...]) -> Mapping[str, MetricNote]:
    """What readers must know of metrics."""
    return {
        name: MetricNote(
            formula=METRICS[name].formula,
            unit=METRICS[name].unit,
            better=METRICS[name].better,
            both_empty=_rule(METRICS[name].empty.from_both),
            one_empty=_rule(METRICS[name].empty.from_one),
            penalty=_rule(METRICS[name].empty.penalty),
            pooled=METRICS[name].pooled is not None,
        )
        for name in names
    }


def _rule(rule: float | Empty) -> float | str:
    return rule.value if isinstance(rule, Empty) else rule
