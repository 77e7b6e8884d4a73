"""How a verb ends before its time: signals, and the exit codes that tell of them."""

import signal
import sys
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoseg.parallel import Progress

INTERRUPTED, TERMINATED = 130, 143


def terminate(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does, unless a training is to end gently."""
    print("autoseg: terminated.", file=sys.stderr)
    raise SystemExit(TERMINATED)


def stop_gently(stop: Event) -> list[int]:
    """Let the first Ctrl-C or SIGTERM end training after its iteration; the second one at once.

    The list that is returned holds the exit code of the signal that came.
    """
    caught = [0]

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        caught[0] = INTERRUPTED if number == signal.SIGINT else TERMINATED
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return caught


def interruptible(progress: "Progress", stop: Event) -> "Progress":
    """A listener that ends the stage it listens to once `stop` is set."""

    def listen(done: int, total: int, what: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress(done, total, what)

    return listen
