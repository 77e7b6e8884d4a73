"""How fast a training goes, as it goes, and how that compares with what its plan expected."""

from collections import deque

from autoseg.quantities import duration_text

WINDOW_S = 300.0  # what is looked back on
EACH_S = 1.0  # between two looks that are kept
FAR_OFF = 1.5  # times what was expected, or of it


class Pace:
    """The rate at which the share of a training that is done grows, over the last minutes."""

    def __init__(self) -> None:
        self.looks: deque[tuple[float, float]] = deque()  # seconds, and the share that was done

    def see(self, at_s: float, fraction: float) -> None:
        """Take in how much was done at a time."""
        if self.looks and at_s - self.looks[-1][0] < EACH_S:
            return
        self.looks.append((at_s, fraction))
        while len(self.looks) > 2 and at_s - self.looks[1][0] > WINDOW_S:
            self.looks.popleft()

    def seconds_left(self, at_s: float, fraction: float) -> float | None:
        """What the rest takes at that rate; None where it is not known yet."""
        if not self.looks:
            return None
        before_s, before = self.looks[0]
        if fraction <= before or at_s <= before_s:
            return None
        return (at_s - before_s) / (fraction - before) * (1 - fraction)


def surprise(epoch_s: float, expected_s: float | None, left_s: float | None) -> str | None:
    """What to say after a first epoch that took far longer, or shorter, than was expected."""
    if not expected_s or 1 / FAR_OFF <= epoch_s / expected_s <= FAR_OFF:
        return None
    rest = "" if left_s is None else f", so that about {duration_text(left_s / 60)} are left"
    return (
        f"The first epoch took {epoch_s / 60:.1f} minutes, and the plan expected "
        f"{expected_s / 60:.1f}{rest}."
    )
