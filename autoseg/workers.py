"""One function over many cases, in worker processes or here, with every failure named."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

from autoseg.errors import AutosegError, raise_if_any

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Told how far a stage is; the command line draws a bar of it."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def silent(done: int, total: int, what: str) -> None:
    """A progress listener that says nothing."""


def map_cases(
    function: Callable[[Item], Result],
    items: dict[str, Item],
    workers: int,
    progress: Progress = silent,
    what: str = "cases",
) -> dict[str, Result]:
    """Apply a picklable function to every case; results in the order of `items`.

    With one worker everything runs in this process. A case that fails does not stop the others:
    all failures are raised together at the end, each with its case's name.
    """
    results: dict[str, Result] = {}
    problems: dict[str, str] = {}
    progress(0, len(items), what)
    for done, (case_id, outcome) in enumerate(_outcomes(function, items, workers), start=1):
        if isinstance(outcome, Exception):
            problems[case_id] = explain_failure(case_id, outcome)
        else:
            results[case_id] = outcome
        progress(done, len(items), what)
    raise_if_any([problems[c] for c in items if c in problems], f"{len(problems)} cases failed")
    return {case_id: results[case_id] for case_id in items}


def _outcomes(
    function: Callable[[Item], Result], items: dict[str, Item], workers: int
) -> Iterator[tuple[str, Result | Exception]]:
    if workers <= 1 or len(items) <= 1:
        for case_id, item in items.items():
            try:
                outcome: Result | Exception = function(item)
            except Exception as failure:
                outcome = failure
            yield case_id, outcome
        return
    with _pool(min(workers, len(items))) as pool:
        futures = {pool.submit(function, item): case_id for case_id, item in items.items()}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], error if isinstance(error, Exception) else future.result()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: forking a process that has threads can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_one_thread_each)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


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
