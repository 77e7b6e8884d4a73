"""How probable it is that an object is there, by its score and what was seen of held-out cases.

A score is how sure networks are, and each kind of answer has its own. So the score s of an object
is put on the scale of the share of objects that were right, by a line between logits,
logit(p) = intercept + slope logit(s), with a slope above 0, for each class (Platt 1999).
"""

from autoseg.postprocessing.quality import logistic, logit
from autoseg.records import Record


class ClassSureness(Record):
    """The line of the class of a label value, and how well it did for cases that it had not seen:
    `error` is the mean difference, of ten groups of objects of alike probability, between that and
    the share of them that is right, and `error_of_scores` the same of the scores themselves.
    """

    value: int
    name: str
    intercept: float
    slope: float
    objects: int
    right_share: float
    error: float
    error_of_scores: float

    def probability(self, score: float) -> float:
        return float(logistic(self.intercept + self.slope * logit(score)))


class ObjectSureness(Record):
    """Of the classes of things with objects enough; an object is right that overlaps one of the
    reference by an IoU of `iou`. Errors are of each of `parts` by the line of the others.

    The objects are those of single models of a fold, before steps correct masks: an average of
    folds is surer, and its probabilities are a little too low.
    """

    classes: tuple[ClassSureness, ...]
    parts: int
    iou: float

    def probability(self, value: int, score: float | None) -> float | None:
        """Of an object of a label value; None where that was not seen often enough."""
        known = next((one for one in self.classes if one.value == value), None)
        return None if known is None or score is None else round(known.probability(score), 4)
