"""How much of this computer other programs leave, as it changes while ours runs."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from autoseg.machine import available_cores

STAT = Path("/proc/stat")
IDLE = (
    3,
    4,
)  # fields of a core's time in /proc/stat that nobody uses: idle, and waiting for a disk


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of all our cores that anybody used, and that this process did, up to a moment."""

    at_s: float
    used_s: float
    own_s: float


class Neighbours:
    """Watches those who share our cores.

    Where the system does not say, or nobody else works, all cores are ours.
    """

    def __init__(self) -> None:
        self.before = look()

    def free_cores(self) -> float:
        """How many cores others left to us, in the mean since this was asked last."""
        before, now = self.before, look()
        if before is None or now is None or now.at_s <= before.at_s:
            return float(available_cores())
        self.before = now
        others_s = (now.used_s - before.used_s) - (now.own_s - before.own_s)
        return available_cores() - max(0.0, others_s) / (now.at_s - before.at_s)


def look() -> Times | None:
    """The times up to now; None where the system does not say."""
    if not STAT.exists() or not hasattr(os, "sched_getaffinity"):
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in STAT.read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name in ours:  # guests' time is in that of users already
            ticks += sum(int(field) for i, field in enumerate(fields[:8]) if i not in IDLE)
    used_s = ticks / os.sysconf("SC_CLK_TCK")
    return Times(time.monotonic(), used_s, time.process_time())
