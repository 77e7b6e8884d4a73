import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoseg import neighbours
from autoseg.machine import available_cores
from autoseg.neighbours import Neighbours, Times


def spin() -> None:
    while True:
        pass


@pytest.fixture
def busy_process() -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=spin)
    process.start()
    yield
    process.kill()
    process.join()


def test_a_busy_program_leaves_its_core_less(busy_process: None) -> None:
    watch = Neighbours()
    time.sleep(0.5)
    assert watch.free_cores() <= available_cores() - 0.3  # it may have to share one itself


def test_what_this_process_does_is_not_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([Times(10.0, 100.0, 40.0), Times(12.0, 103.0, 42.5), Times(14.0, 107.0, 43.5)])
    monkeypatch.setattr(neighbours, "look", lambda: next(looks))
    monkeypatch.setattr(neighbours, "available_cores", lambda: 2)
    watch = Neighbours()
    assert watch.free_cores() == pytest.approx(2 - 0.5 / 2)
    assert watch.free_cores() == pytest.approx(2 - 3 / 2)  # since it was asked last


def test_all_cores_are_ours_where_nobody_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(neighbours, "STAT", tmp_path / "none")
    assert Neighbours().free_cores() == available_cores()


def test_times_are_of_our_cores_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = sorted(os.sched_getaffinity(0))[0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {ours})
    tick = 1 / os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(
        f"cpu 900 1 1 1 1 1 1\ncpu{ours} 100 20 30 5000 600 7 8 9 50 0\ncpu99 1 1 1 1 1 1 1\n"
    )
    monkeypatch.setattr(neighbours, "STAT", stat)
    seen = neighbours.look()
    assert seen is not None
    assert seen.used_s == pytest.approx((100 + 20 + 30 + 7 + 8 + 9) * tick)
