"""How long to train, and the learning rate along the way."""

import math
from typing import Self

from pydantic import Field, model_validator

from autoseg.planning.run_plan import TrainingPlan
from autoseg.records import Record


class Budget(Record):
    """The length of a training: epochs, iterations, or seconds of wall time; at most one is given,
    else the plan's length holds."""

    epochs: int | None = Field(default=None, gt=0)
    iterations: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(length is not None for length in (self.epochs, self.iterations, self.seconds)) > 1:
            raise ValueError("only one of epochs, iterations and seconds can be given")
        return self

    @property
    def is_given(self) -> bool:
        return self != Budget()

    def settled(self, plan: TrainingPlan) -> "Budget":
        """The same length in iterations or seconds, the plan's where none is given."""
        if self.iterations is not None or self.seconds is not None:
            return self
        return Budget(iterations=(self.epochs or plan.epochs) * plan.iterations_per_epoch)

    def fraction(self, iteration: int, elapsed_s: float) -> float:
        """How much of a settled budget is used, 0 to 1; the training ends at 1."""
        if self.iterations is not None:
            return min(1.0, iteration / self.iterations)
        assert self.seconds is not None
        return min(1.0, elapsed_s / self.seconds)


def learning_rate(plan: TrainingPlan, fraction: float) -> float:
    """The rate after a fraction of the budget: a linear rise, then the plan's decay to 0.

    Polynomial decay is of Chen et al. 2017 (arXiv:1606.00915), cosine decay of Loshchilov & Hutter
    2017 (arXiv:1608.03983).
    """
    if fraction < plan.warmup_fraction:
        return plan.learning_rate * fraction / plan.warmup_fraction
    done = (fraction - plan.warmup_fraction) / (1 - plan.warmup_fraction)
    if plan.schedule == "cosine":
        return plan.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return float(plan.learning_rate * (1 - done) ** plan.polynomial_power)
