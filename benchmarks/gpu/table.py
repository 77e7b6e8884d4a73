"""The parts of the benchmark; known without torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A module of this package, the seconds that it may take on a GPU, and whether it may run
    beside others, since it times nothing."""

    name: str
    limit_s: float
    beside: bool = False


CASES = "cases"  # what others need, made before them
PARTS = (
    Part(CASES, 40),
    Part("correct", 80, beside=True),
    Part("resume", 80, beside=True),
    Part("memory", 80, beside=True),
    Part("out_of_memory", 80, beside=True),
    Part("two_processes", 80, beside=True),
    Part("steps", 170),
    Part("epoch", 110),
    Part("predict", 90),
    Part("convergence", 110),
)
