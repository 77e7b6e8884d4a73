"""What is done with models beyond their own files: which of them answer, and what follows."""

from autoseg.postprocessing.quality import QualityModel
from autoseg.postprocessing.steps import Step
from autoseg.postprocessing.sureness import ObjectSureness
from autoseg.records import Record


class Recipe(Record):
    """Which configurations answer together, the steps that correct their masks, what Dice is to be
    expected of them, and how sure one may be of objects; None where no cross-validation told.

    `members` are written as plan/configuration: a first stage of a cascade answers, beside what it
    does for the second, only if it is one of them. Without any, all others answer.
    """

    members: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    quality: QualityModel | None = None
    sureness: ObjectSureness | None = None


def member_name(plan: str, configuration: str) -> str:
    """How a configuration is called among those of several plans."""
    return f"{plan}/{configuration}"
