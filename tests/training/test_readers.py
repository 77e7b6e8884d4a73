"""Covers: reading, readers, ring."""

import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.augmentation.sample import LABEL, RawSample
from autoseg.errors import AutosegError
from autoseg.training import readers
from autoseg.training import reading as reading_module
from autoseg.training.batches import make_sampler
from autoseg.training.readers import Readers
from autoseg.training.ring import Ring, SharedMemory
from autoseg.training.sampling import PatchSampler
from tests.training.blobs import training_in


@pytest.fixture
def sampler(tmp_path: Path) -> PatchSampler:
    return make_sampler(training_in(tmp_path, 5), "training")


@pytest.fixture
def reading(sampler: PatchSampler) -> Iterator[Readers]:
    started = Readers(sampler, range(2), itertools.count(3), processes=2, most_bytes=2**20)
    yield started
    started.close()


def assert_equal(found: list[RawSample], expected: list[RawSample]) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert mine.case_id == other.case_id
        np.testing.assert_array_equal(mine.image, other.image)
        np.testing.assert_array_equal(mine.label, other.label)
        assert mine.classes.keys() == other.classes.keys()
        if LABEL in mine.classes:
            np.testing.assert_array_equal(mine.classes[LABEL], other.classes[LABEL])


@pytest.mark.parametrize(("processes", "most_bytes"), [(1, 2**20), (3, 2**20), (2, 10)])
def test_samples_are_the_samplers_however_many_read_and_whatever_fits(
    sampler: PatchSampler, processes: int, most_bytes: int
) -> None:
    reading = Readers(sampler, range(2), itertools.count(3), processes, most_bytes)
    for step in range(3, 25):
        assert_equal(next(reading), sampler.draw(step, range(2)))
        if step > 3:  # one step is held, as a training does
            reading.give_back()
    reading.close()
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_named_and_replaced(
    reading: Readers, sampler: PatchSampler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert_equal(next(reading), sampler.draw(3, range(2)))
    for reader in reading.readers:
        assert reader.process.pid is not None
        os.kill(reader.process.pid, signal.SIGKILL)
    for step in range(4, 20):
        assert_equal(next(reading), sampler.draw(step, range(2)))
        reading.give_back()
    assert "a process that reads died (-9)" in caplog.text


def test_processes_that_die_again_and_again_end_the_training(
    reading: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(reading)
    monkeypatch.setattr(readers, "MOST_DEATHS", 0)
    for reader in reading.readers:
        reader.process.kill()
    with pytest.raises(AutosegError, match="Close other programs"):
        for _ in range(20):
            next(reading)
            reading.give_back()


def test_an_error_while_reading_names_the_case(sampler: PatchSampler, tmp_path: Path) -> None:
    for case in sampler.cases.values():
        case.label.shape = (-1,)  # no longer three axes
    reading = Readers(sampler, range(2), itertools.count(), processes=1, most_bytes=2**20)
    with pytest.raises(AutosegError, match="case_"):
        next(reading)
    reading.close()


def test_processes_that_read_start_without_torch() -> None:
    check = "import sys, autoseg.training.readers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_no_process_outlives_a_training_that_is_killed(reading: Readers) -> None:
    next(reading)
    processes = [reader.process for reader in reading.readers]
    for reader in reading.readers:
        reader.connection.close()  # as the system does with a killed process's
    deadline = time.monotonic() + 10
    while any(p.is_alive() for p in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(process.is_alive() for process in processes)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60))
def test_pieces_of_a_ring_never_overlap(requests: list[tuple[int, int]]) -> None:
    ring, held = Ring(100), deque[tuple[int, int]]()
    for size, returned in requests:
        for _ in range(min(returned, len(held))):
            ring.give_back()
            held.popleft()
        begin = ring.take(size)
        if begin is None:
            assert held  # an empty ring has room for all that fits
            continue
        assert begin >= 0 and begin + size <= 100
        assert all(begin + size <= low or begin >= high for low, high in held if low < high)
        held.append((begin, begin + size))


def test_shared_memory_has_no_name_that_could_be_left_behind() -> None:
    memory = SharedMemory(100)
    memory.view[:3] = b"abc"
    assert bytes(memory.view[:3]) == b"abc"


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
def test_the_classes_of_a_map_are_those_of_its_voxels(values: list[int]) -> None:
    found = reading_module._classes_in(np.array(values, np.uint8).reshape(1, 1, -1))
    assert found.tolist() == sorted(set(values))
