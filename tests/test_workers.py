import os
import signal

import pytest

from autoseg.errors import AutosegError
from autoseg.workers import map_cases


def halve(number: int) -> float:
    if number == 0:
        raise ValueError("nothing to halve")
    return number / 2


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_cases(workers: int) -> None:
    items = {"b": 4, "a": 2, "c": 6}
    assert list(map_cases(halve, items, workers).items()) == [("b", 2), ("a", 1), ("c", 3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_failing_case_is_named_and_the_others_are_done(workers: int) -> None:
    seen = []
    with pytest.raises(AutosegError, match=r"(?s)first: ValueError: nothing.*second: ValueError"):
        map_cases(
            halve,
            {"first": 0, "good": 2, "second": 0},
            workers,
            progress=lambda done, total, what: seen.append(done),
        )
    assert seen == [0, 1, 2, 3]


def test_a_worker_that_is_killed_names_its_cases() -> None:
    with pytest.raises(AutosegError, match="one: its worker process died"):
        map_cases(die, {"one": 1, "two": 2}, workers=2)


def threads_in_worker(number: int) -> list[int]:
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info()]


def test_worker_processes_do_not_compete_for_cores() -> None:
    counts = map_cases(threads_in_worker, {"a": 1, "b": 2}, workers=2)
    assert all(threads == 1 for pools in counts.values() for threads in pools)
    assert any(counts.values())
