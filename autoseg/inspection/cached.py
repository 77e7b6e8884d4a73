"""Inspecting many cases: in parallel, within memory, and none whose files were seen before."""

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem
from autoseg.images.formats import count_values, files_of
from autoseg.inspection.case import Inspection, inspect_case
from autoseg.inspection.statistics import CaseStats, Samples
from autoseg.machine import GIB, free_memory_gib
from autoseg.parallel import MemoryBudget, Progress, map_cases, silent
from autoseg.records import Record, replacing

log = logging.getLogger(__name__)

FORMAT_VERSION = 7
BYTES_AT_ONCE = 2**24
SMALL_FILE_BYTES = 2**22
SMALL_DATASET_BYTES = 2**28  # whose files are hashed before processes could start
FREE_MEMORY_FRACTION = 0.75
WORKER_GIB, BYTES_PER_VALUE = 0.15, 10  # of a worker alone, and for each value of a scan


class InspectionRecord(Record):
    """The part of an inspection that is kept as text."""

    problems: tuple[Problem, ...]
    stats: CaseStats


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs to inspect a case; `cache` is where earlier inspections are."""

    case: Case
    scheme: LabelScheme | None
    cache: Path | None


def inspect_cases(
    dataset: Dataset,
    cases: tuple[Case, ...],
    cache: Path | None,
    workers: int,
    progress: Progress = silent,
) -> dict[str, Inspection]:
    """Read every file once, in parallel; cases whose files are in the cache are not read again."""
    tasks = {case.case_id: Task(case, dataset.labels, cache) for case in cases}
    if _are_soon_recalled(list(tasks.values())):
        workers = 1
    budget = _memory_budget(cases)
    return map_cases(_recall_or_inspect, tasks, workers, progress, "looking at cases", budget)


def _memory_budget(cases: tuple[Case, ...]) -> MemoryBudget | None:
    """Three quarters of the free memory for all workers; None where scans are too small to care."""
    files = [path for case in cases for path in case.files()]
    if not any(path.stat().st_size > SMALL_FILE_BYTES for path in files if path.is_file()):
        return None
    needs_gib = {
        case.case_id: WORKER_GIB
        + sum(count_values(path) for path in case.files()) * BYTES_PER_VALUE / GIB
        for case in cases
    }
    return MemoryBudget(FREE_MEMORY_FRACTION * free_memory_gib(), needs_gib)


def _are_soon_recalled(tasks: list[Task]) -> bool:
    """Whether all cases were seen before and are small, so that processes would only cost time."""
    files = [path for task in tasks for path in _files(task)]
    try:
        small = sum(path.stat().st_size for path in files) <= SMALL_DATASET_BYTES
        return small and all(path is not None and path.exists() for path in map(_entry, tasks))
    except OSError:
        return False


def _recall_or_inspect(task: Task) -> Inspection:
    try:
        path = _entry(task)
    except OSError:  # a file that cannot be opened is a finding, not a failure
        path = None
    if path is None:
        return inspect_case(task.case, task.scheme)
    if path.exists():
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            log.warning("%s is damaged; the case is looked at again.", path)
    inspection = inspect_case(task.case, task.scheme)
    if inspection.stats is not None and inspection.samples is not None:
        _save(path, inspection)
    return inspection


def _entry(task: Task) -> Path | None:
    """Where an inspection is kept; None where none is."""
    return None if task.cache is None else task.cache / f"{_key(task)}.npz"


def _key(task: Task) -> str:
    """A hash of the case's names, the content of its files, and the labels that are declared."""
    scheme = task.scheme.model_dump_json() if task.scheme else ""
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {task.case} {scheme}".encode(), digest_size=12)
    for path in _files(task):
        status = path.stat()
        digest.update(_content_hash(path, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=4)  # all cases of a dataset may have one file of annotations
def _content_hash(path: Path, size_bytes: int, modified_ns: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(BYTES_AT_ONCE):
            digest.update(block)
    return digest.digest()


def _files(task: Task) -> list[Path]:
    """A case's files with all their parts, its label too."""
    files = [*task.case.files(), *task.case.label_files()]
    return [part for file in files for part in files_of(file)]


def _save(path: Path, inspection: Inspection) -> None:
    assert inspection.stats is not None and inspection.samples is not None
    record = InspectionRecord(problems=inspection.problems, stats=inspection.stats)
    arrays: dict[str, Any] = {name: getattr(inspection.samples, name) for name in Samples.__slots__}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, synced=False) as temporary, temporary.open("wb") as stream:
        np.savez(stream, record=np.array(record.model_dump_json()), **arrays)


def _load(path: Path) -> Inspection:
    with np.load(path, allow_pickle=False) as content:
        record = InspectionRecord.model_validate_json(str(content["record"]))
        samples = Samples(**{name: content[name] for name in Samples.__slots__})
    return Inspection(record.problems, record.stats, samples)
