"""Processes that read patches ahead, into memory that they share with the training.

The training chooses what to read, so that samples are the same however many processes there are. A
process knows cases by path, needs no torch, and is gone when the training is.
"""

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.augmentation.sample import RawSample
from autoseg.errors import AutosegError
from autoseg.parallel import explain_failure, script_aside
from autoseg.preprocessing.store import StoredCase
from autoseg.training.reading import (
    ChosenPatch,
    Layout,
    closed_case,
    finish_reading,
    opened_case,
    read_sample,
    sample_in,
)
from autoseg.training.ring import Ring, SharedMemory

if TYPE_CHECKING:
    from autoseg.training.sampling import PatchSampler

log = logging.getLogger(__name__)

MOST_BYTES_AHEAD = 2**30
AT_ONCE = 2  # patches that a process is asked for, so that it is never idle
MOST_DEATHS = 3  # of processes in a row, none of which has read anything

Classes = Mapping[str, NDArray[np.uint8]]  # that label and maps of a patch have


@dataclass(slots=True)
class _Unit:
    """One patch of a step: where it is going to lie, and what reading it came to."""

    chosen: ChosenPatch
    layout: Layout
    offset: int = 0
    classes: Classes | None = None
    error: AutosegError | None = None

    @property
    def is_read(self) -> bool:
        return self.classes is not None or self.error is not None


@dataclass(slots=True)
class _Reader:
    """A process, and what it has been asked for, oldest first."""

    process: BaseProcess
    connection: Connection
    asked: deque[_Unit] = field(default_factory=deque)


class Readers:
    """The samples of one step after another, read by processes, and held until given back.

    What waits, and what has not been given back, takes `most_bytes` at most; a step that is larger
    is read by the training itself. An error while reading is raised at its step. Close it, and no
    process is left.
    """

    def __init__(
        self,
        sampler: "PatchSampler",
        share: Sequence[int],
        steps: Iterator[int],
        processes: int,
        most_bytes: int = MOST_BYTES_AHEAD,
    ) -> None:
        self.sampler, self.share, self.steps = sampler, share, steps
        self.cases = {name: closed_case(case) for name, case in sampler.cases.items()}
        self.memory, self.ring = SharedMemory(most_bytes), Ring(most_bytes)
        self.waiting: deque[list[_Unit]] = deque()  # steps with a place, oldest first
        self.unplaced: list[_Unit] | None = None  # the step after them
        self.unasked: deque[_Unit] = deque()
        self.deaths = 0
        self.readers = [self._start() for _ in range(processes)]

    def __iter__(self) -> Iterator[list[RawSample]]:
        return self

    def __next__(self) -> list[RawSample]:
        """The samples of the next step; they are valid until they are given back."""
        self._ask()
        if not self.waiting:  # larger than all of the memory
            units, self.unplaced = self._unplaced(), None
            self.ring.take(0)
            return [read_sample(self.sampler.cases[u.chosen.case_id], u.chosen) for u in units]
        units = self.waiting[0]
        while not all(unit.is_read for unit in units):
            self._listen(None)
            self._ask()
        self.waiting.popleft()
        self._listen(0)
        self._ask()
        for unit in units:
            if unit.error is not None:
                raise unit.error
        return [self._sample(unit) for unit in units]

    def give_back(self) -> None:
        """Let the memory of the oldest step that was handed out be used again."""
        self.ring.give_back()

    def close(self) -> None:
        for reader in self.readers:
            reader.connection.close()
            reader.process.terminate()
        for reader in self.readers:
            reader.process.join()
        self.readers = []

    def _ask(self) -> None:
        """Place as many steps as there is room for, and keep every process busy."""
        most = AT_ONCE * len(self.readers) + 1
        while len(self.waiting) < most and self._place(self._unplaced()):
            self.unplaced = None
        for reader in self.readers:
            while self.unasked and len(reader.asked) < AT_ONCE:
                self._send(reader, self.unasked.popleft())

    def _unplaced(self) -> list[_Unit]:
        if self.unplaced is None:
            chosen = self.sampler.choose(next(self.steps), self.share)
            cases = self.sampler.cases
            self.unplaced = [_Unit(c, Layout.of(cases[c.case_id], c.box)) for c in chosen]
        return self.unplaced

    def _place(self, units: list[_Unit]) -> bool:
        begin = self.ring.take(sum(unit.layout.size_bytes for unit in units))
        if begin is None:
            return False
        for unit in units:
            unit.offset, begin = begin, begin + unit.layout.size_bytes
        self.waiting.append(units)
        self.unasked += units
        return True

    def _send(self, reader: _Reader, unit: _Unit) -> None:
        reader.asked.append(unit)
        with suppress(OSError):  # it has died, which is found when it is listened to
            reader.connection.send((unit.offset, unit.chosen))

    def _listen(self, timeout_s: float | None) -> None:
        """Take in what processes have read; wait for one of them, unless there is a timeout."""
        by_connection = {reader.connection: reader for reader in self.readers if reader.asked}
        for ready in wait(list(by_connection), timeout_s):
            assert isinstance(ready, Connection)
            reader = by_connection[ready]
            try:
                outcome = ready.recv()
            except (EOFError, OSError):
                self._replace(reader)
                continue
            self.deaths = 0
            unit = reader.asked.popleft()
            if isinstance(outcome, AutosegError):
                unit.error = outcome
            else:
                unit.classes = outcome

    def _sample(self, unit: _Unit) -> RawSample:
        piece = self.memory.view[unit.offset : unit.offset + unit.layout.size_bytes]
        return sample_in(unit.layout.patch_in(piece), unit.chosen, unit.classes or {})

    def _start(self) -> _Reader:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        here, there = context.Pipe()
        arguments = (there, self.memory, self.cases)
        process = context.Process(target=serve, args=arguments, name="reader", daemon=True)
        with script_aside():
            process.start()
        there.close()
        return _Reader(process, here)

    def _replace(self, dead: _Reader) -> None:
        """Start another process in place of one that died, and ask it for the same."""
        dead.process.join()
        what = (
            f"a process that reads died ({dead.process.exitcode}), most likely for want of memory, "
            f"at {dead.asked[0].chosen.case_id}"
        )
        self.deaths += 1
        if self.deaths > MOST_DEATHS:
            raise AutosegError(f"{what}; so did {MOST_DEATHS} before it. Close other programs.")
        log.warning("%s; another one takes its place.", what)
        started = self._start()
        self.readers[self.readers.index(dead)] = started
        for unit in dead.asked:
            self._send(started, unit)


def serve(connection: Connection, memory: SharedMemory, cases: Mapping[str, StoredCase]) -> None:
    """Read what is asked for until nobody can ask any more; this is all that a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends it
    opened: dict[str, StoredCase] = {}
    while (request := _request(connection)) is not None:
        offset, chosen = request
        try:
            if chosen.case_id not in opened:
                opened[chosen.case_id] = opened_case(cases[chosen.case_id])
            outcome: Any = _read(opened[chosen.case_id], chosen, memory.view[offset:])
        except Exception as error:
            outcome = AutosegError(explain_failure(chosen.case_id, error))
        connection.send(outcome)


def _request(connection: Connection) -> tuple[int, ChosenPatch] | None:
    try:
        request: tuple[int, ChosenPatch] = connection.recv()
    except (EOFError, OSError):
        return None
    return request


def _read(case: StoredCase, chosen: ChosenPatch, memory: memoryview) -> Classes:
    patch = Layout.of(case, chosen.box).patch_in(memory)
    case.read_into(chosen.box, patch)
    return finish_reading(patch, chosen)
