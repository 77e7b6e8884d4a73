"""How long to train, and the learning rate along the way."""

import math
from dataclasses import dataclass

from autoseg.errors import AutosegError
from autoseg.planning.plan import TrainingPlan


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


def make_budget(
    plan: TrainingPlan, epochs: int | None, iterations: int | None, minutes: float | None
) -> Budget:
    """The budget that a user asked for, or the plan's. Raises AutosegError unless it is positive.

    At most one of the three may be given.
    """
    for flag, value in (("--epochs", epochs), ("--iterations", iterations), ("--minutes", minutes)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise AutosegError(f"{flag} {value}: must be a number above 0.")
    if minutes is not None:
        return Budget(seconds=minutes * 60)
    if iterations is not None:
        return Budget(iterations=iterations)
    return Budget(iterations=(epochs or plan.epochs) * plan.iterations_per_epoch)


def learning_rate(plan: TrainingPlan, fraction: float) -> float:
    """Polynomial decay from the plan's rate to 0 (Chen et al. 2017, arXiv:1606.00915)."""
    return float(plan.learning_rate * (1 - fraction) ** plan.polynomial_power)
