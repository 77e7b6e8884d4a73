"""One function over many cases, in worker processes or here, with every failure named."""

import logging
import multiprocessing
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import ModuleType
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

from autoseg.errors import AutosegError, raise_if_any

log = logging.getLogger(__name__)

AHEAD = 2  # cases that wait in the workers' queue, so that none is idle
_aside = Lock()

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Told how far a stage is; the command line draws a bar of it."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def silent(done: int, total: int, what: str) -> None:
    """A progress listener that says nothing."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """How much memory all workers may take together, and what each case is expected to need."""

    total_gib: float
    needs_gib: dict[str, float]


def map_cases(
    function: Callable[[Item], Result],
    items: dict[str, Item],
    workers: int,
    progress: Progress = silent,
    what: str = "cases",
    budget: MemoryBudget | None = None,
) -> dict[str, Result]:
    """Apply a picklable function to every case; results in the order of `items`.

    With one worker everything runs in this process. A case that fails, or whose worker dies, does
    not stop the others: all failures are raised together at the end, each with its case's name.
    With a budget a case waits until it fits beside those that run; one that is larger than the
    whole budget runs alone.
    """
    results: dict[str, Result] = {}
    problems: dict[str, str] = {}
    progress(0, len(items), what)
    for done, (case_id, outcome) in enumerate(_outcomes(function, items, workers, budget), 1):
        if isinstance(outcome, Exception):
            problems[case_id] = explain_failure(case_id, outcome)
        else:
            results[case_id] = outcome
        progress(done, len(items), what)
    raise_if_any([problems[c] for c in items if c in problems], f"{len(problems)} cases failed")
    return {case_id: results[case_id] for case_id in items}


def _outcomes(
    function: Callable[[Item], Result],
    items: dict[str, Item],
    workers: int,
    budget: MemoryBudget | None,
) -> Iterator[tuple[str, Result | Exception]]:
    if workers <= 1 or len(items) <= 1:
        for case_id, item in items.items():
            try:
                outcome: Result | Exception = function(item)
            except Exception as failure:
                outcome = failure
            yield case_id, outcome
        return
    waiting = list(items)
    while waiting:
        suspects = yield from _run_together(function, items, waiting, workers, budget)
        for case_id in suspects:  # which of them killed its worker shows when each is alone
            yield from _run_together(function, items, [case_id], 1, None, last_try=True)


def _run_together(
    function: Callable[[Item], Result],
    items: dict[str, Item],
    waiting: list[str],
    workers: int,
    budget: MemoryBudget | None,
    last_try: bool = False,
) -> Generator[tuple[str, Result | Exception], None, list[str]]:
    """Run cases off the list `waiting` until it is empty, or a worker dies.

    Returns the cases that were running then; with `last_try` they are given as failed instead.
    """
    running: dict[Future[Result], str] = {}
    suspects: list[str] = []
    with _pool(min(workers, len(waiting))) as pool:
        while (waiting and not suspects) or running:
            while waiting and not suspects and _may_start(waiting[0], running, workers, budget):
                case_id = waiting.pop(0)
                try:
                    with script_aside():
                        running[pool.submit(function, items[case_id])] = case_id
                except BrokenProcessPool as death:
                    if last_try:
                        yield case_id, death
                    else:
                        suspects.append(case_id)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                case_id, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool) and not last_try:
                    suspects.append(case_id)
                else:
                    yield case_id, error if isinstance(error, Exception) else future.result()
    return suspects


def _may_start(
    case_id: str,
    running: dict[Future[Result], str],
    workers: int,
    budget: MemoryBudget | None,
) -> bool:
    if not running:
        return True
    if budget is None:
        return len(running) < workers + AHEAD
    needed_gib = sum(budget.needs_gib[other] for other in (case_id, *running.values()))
    return len(running) < workers and needed_gib <= budget.total_gib


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: forking a process that has threads can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_one_thread_each)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def script_aside() -> Iterator[None]:
    """Processes that are started here do not begin by running the user's script once more, as
    Python's do, which scripts have to be written for."""
    with _aside:  # of two threads the second would take the stand-in for the script
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def _one_thread_each() -> None:
    import numpy  # noqa: F401  # its BLAS must be there to be limited

    threadpool_limits(1)


def explain_failure(case_id: str, error: Exception) -> str:
    """One message for a case that failed, which names the case and the cause."""
    if isinstance(error, AutosegError):
        return str(error) if case_id in str(error) else f"{case_id}: {error}"
    if isinstance(error, BrokenProcessPool):
        return (
            f"{case_id}: its worker process died, most likely for want of memory. Close other "
            "programs or use fewer workers (--workers 1)."
        )
    log.debug("%s failed", case_id, exc_info=error)
    return f"{case_id}: {type(error).__name__}: {error}"
