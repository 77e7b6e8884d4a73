"""How long to train, and the learning rate along the way."""

import math
from dataclasses import dataclass

from autoseg.errors import AutosegError
from autoseg.planning.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class Length:
    """How long a user wants to train; at most one is given, else the plan's length holds."""

    epochs: int | None = None
    iterations: int | None = None
    minutes: float | None = None
    hours: float | None = None

    @property
    def is_given(self) -> bool:
        return self != PLANNED


PLANNED = Length()


@dataclass(frozen=True, slots=True)
class Budget:
    """The length of a training: iterations, or seconds of wall time; exactly one is set."""

    iterations: int | None = None
    seconds: float | None = None

    def fraction(self, iteration: int, elapsed_s: float) -> float:
        """How much of the budget is used, 0 to 1; the training ends at 1."""
        if self.iterations is not None:
            return min(1.0, iteration / self.iterations)
        assert self.seconds is not None
        return min(1.0, elapsed_s / self.seconds)


def make_budget(plan: TrainingPlan, length: Length) -> Budget:
    """The budget that a user asked for, or the plan's. Raises AutosegError unless positive."""
    given = {
        "--epochs": length.epochs,
        "--iterations": length.iterations,
        "--minutes": length.minutes,
        "--hours": length.hours,
    }
    for flag, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise AutosegError(f"{flag} {value}: must be a number above 0.")
    if length.hours is not None:
        return Budget(seconds=length.hours * 3600)
    if length.minutes is not None:
        return Budget(seconds=length.minutes * 60)
    if length.iterations is not None:
        return Budget(iterations=length.iterations)
    return Budget(iterations=(length.epochs or plan.epochs) * plan.iterations_per_epoch)


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
