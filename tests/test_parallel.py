import os
import signal
import sys
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from autoseg.errors import AutosegError
from autoseg.parallel import MemoryBudget, map_cases, script_aside


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


def die_if_odd(number: int) -> int:
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def test_the_script_comes_back_whatever_threads_start_processes_at_once() -> None:
    script, began = sys.modules["__main__"], Event()

    def start() -> None:
        with script_aside():
            began.set()
            time.sleep(0.02)

    threads = [Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
        began.wait()
    for thread in threads:
        thread.join()
    assert sys.modules["__main__"] is script


def test_a_worker_that_is_killed_names_its_case_and_the_others_finish() -> None:
    items = {f"case_{number}": number for number in (0, 2, 3, 4, 6, 8, 5, 10)}
    seen = []
    with pytest.raises(AutosegError) as error:
        map_cases(
            die_if_odd,
            items,
            workers=2,
            progress=lambda done, total, what: seen.append(done),
        )
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip(" -") for line in lines[1:]] == ["case_3", "case_5"]
    assert "its worker process died" in lines[1]
    assert seen == list(range(len(items) + 1))


def span(item: tuple[Path, str]) -> None:
    folder, name = item
    started = time.monotonic()
    time.sleep(0.15)
    (folder / name).write_text(f"{started} {time.monotonic()}")


def test_cases_wait_until_they_fit_into_memory(tmp_path: Path) -> None:
    items = {name: (tmp_path, name) for name in ("large", "small", "other", "huge")}
    needs = {"large": 3.0, "small": 1.0, "other": 1.0, "huge": 100.0}
    map_cases(span, items, workers=3, budget=MemoryBudget(total_gib=4.0, needs_gib=needs))
    spans = {name: [float(t) for t in (tmp_path / name).read_text().split()] for name in items}
    for name, (start, end) in spans.items():
        for instant in (start + 0.01, end - 0.01):
            together = [n for n, (a, b) in spans.items() if a <= instant <= b]
            assert sum(needs[n] for n in together) <= 4.0 or together == [name]


def threads_in_worker(number: int) -> list[int]:
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info()]


def test_worker_processes_do_not_compete_for_cores() -> None:
    counts = map_cases(threads_in_worker, {"a": 1, "b": 2}, workers=2)
    assert all(threads == 1 for pools in counts.values() for threads in pools)
    assert any(counts.values())
