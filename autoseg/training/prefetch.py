"""The samples of steps to come, made while the network learns, within a bound on memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from autoseg.augmentation.sample import RawSample

MOST_BYTES_AHEAD = 2**30
MOST_STEPS_AHEAD = 64  # small samples kept for thousands of steps would leave memory full of holes
UNFINISHED_PER_MAKER = 2  # steps, so that none is idle until the training asks again

Samples = list[RawSample]


def prefetch(
    draw: Callable[[int], Samples],
    steps: Iterator[int],
    threads: int,
    most_bytes: int = MOST_BYTES_AHEAD,
) -> Generator[Samples, None, None]:
    """Yield the samples of each step in order, while threads read those that follow.

    An error while reading is raised here, at its step. Bounded as `make_ahead` says.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sampling")
    try:
        yield from make_ahead(lambda step: pool.submit(draw, step), steps, threads, most_bytes)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def make_ahead(
    submit: Callable[[int], Future[Samples]],
    steps: Iterator[int],
    makers: int,
    most_bytes: int = MOST_BYTES_AHEAD,
) -> Generator[Samples, None, None]:
    """Yield the samples of each step in order; those that wait take `most_bytes` at most, and none
    is asked for while MOST_STEPS_AHEAD of them wait finished.

    One step is always made ahead, however large. Steps that are not finished are taken to be as
    large as the largest so far.
    """
    backlog = _Backlog(makers * UNFINISHED_PER_MAKER, most_bytes)
    for step in steps:
        backlog.add(submit(step))
        while backlog.step_count > 1 and not backlog.has_room():
            yield backlog.take()
    while backlog.step_count:
        yield backlog.take()


class _Backlog:
    """Steps that were asked for and not taken yet, oldest first: finished ones, then others."""

    def __init__(self, most_unfinished: int, most_bytes: int) -> None:
        self.most_unfinished = most_unfinished
        self.most_bytes = most_bytes
        self.finished: deque[tuple[Samples, int]] = deque()  # with their bytes
        self.unfinished: deque[Future[Samples]] = deque()
        self.finished_bytes = 0
        self.largest_bytes: int | None = None  # of a step so far

    @property
    def step_count(self) -> int:
        return len(self.finished) + len(self.unfinished)

    def add(self, step: Future[Samples]) -> None:
        self.unfinished.append(step)

    def has_room(self) -> bool:
        """Whether one more step may be asked for."""
        while self.unfinished and _is_made(self.unfinished[0]):
            self._finish_oldest()
        if self.largest_bytes is None or len(self.finished) >= MOST_STEPS_AHEAD:
            return False
        coming_bytes = (len(self.unfinished) + 1) * self.largest_bytes
        fits = self.finished_bytes + coming_bytes <= self.most_bytes
        return fits and len(self.unfinished) < self.most_unfinished

    def take(self) -> Samples:
        """The samples of the oldest step, once they are made; raises what making them raised."""
        if not self.finished:
            self._finish_oldest()
        samples, size_bytes = self.finished.popleft()
        self.finished_bytes -= size_bytes
        return samples

    def _finish_oldest(self) -> None:
        samples = self.unfinished.popleft().result()
        size_bytes = sum(sample.size_bytes for sample in samples)
        self.finished.append((samples, size_bytes))
        self.finished_bytes += size_bytes
        self.largest_bytes = max(self.largest_bytes or 0, size_bytes)


def _is_made(step: Future[Samples]) -> bool:
    return step.done() and not step.cancelled() and step.exception() is None
