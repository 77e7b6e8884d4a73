"""From scans as stored to arrays on a plan's grid: reorient, crop, normalise, resample, store."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import BORDER_REACH, LabelScheme
from autoseg.dataset.objects import read_objects
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError
from autoseg.images.formats import files_of
from autoseg.inspection.statistics import CaseStats
from autoseg.machine import GIB
from autoseg.parallel import MemoryBudget, Progress, map_cases, silent
from autoseg.planning.cost import prepared_voxels
from autoseg.planning.grid_plan import GridPlan
from autoseg.preprocessing.placing import prepare_scan, with_objects
from autoseg.preprocessing.store import SUFFIX, SourceFile, is_stored, write_case
from autoseg.preprocessing.tilt import tilt_of

FORMAT_VERSION = 5

# Memory at the peak: of a worker without a case; by voxel whatever the channels, and by channel.
WORKER_GIB = 0.15
BYTES_PER_SOURCE_VOXEL = (10, 8)
BYTES_PER_TARGET_VOXEL = (16, 8)


def preparation_hash(grid: GridPlan, labels: LabelScheme) -> str:
    """A short hash of just those settings that change what is prepared."""
    content: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "labels": labels.model_dump(
            mode="json", include={"values", "ignore", "instances", "regions", "things"}
        ),
        "grid": grid.model_dump(mode="json"),
    }
    if labels.instances:
        content["border"] = BORDER_REACH
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """A grid to put cases on, and the folder to keep them in."""

    grid: GridPlan
    folder: Path

    def path(self, case_id: str) -> Path:
        """The file of a prepared case."""
        return self.folder / f"{case_id}{SUFFIX}"


def prepare_cases(
    cases: Sequence[Case],
    labels: LabelScheme,
    targets: Sequence[Target],
    workers: int,
    progress: Progress = silent,
    budget: MemoryBudget | None = None,
) -> int:
    """Prepare the cases that a folder lacks, or whose files changed; how many cases that was.

    A case is read once for all its targets. One without files, since the dataset is away, is taken
    as it is stored. Raises AutosegError naming every case that failed; the
    others are stored.
    """
    stale = {}
    for case in cases:
        sources = source_files(case)
        missing = [t for t in targets if not is_stored(t.path(case.case_id), sources)]
        if missing:
            stale[case.case_id] = (case, labels, missing)
    if stale:
        map_cases(_prepare_and_store, stale, workers, progress, "preparing cases", budget)
    return len(stale)


def expected_memory_gib(case: CaseStats, channel_count: int, targets: Sequence[Target]) -> float:
    """Memory that a worker needs for a case at its peak, in GiB."""
    source_vox = prod(case.shape_vox)
    peak = BYTES_PER_SOURCE_VOXEL[0] + BYTES_PER_SOURCE_VOXEL[1] * channel_count
    bytes_per_voxel = BYTES_PER_TARGET_VOXEL[0] + BYTES_PER_TARGET_VOXEL[1] * channel_count
    largest = max(prepared_voxels(case, target.grid) for target in targets) * bytes_per_voxel
    return WORKER_GIB + (source_vox * peak + largest) / GIB


def source_files(case: Case) -> tuple[SourceFile, ...]:
    """Size and time of every file of a case. Raises AutosegError when one is gone."""
    files = []
    named = (*case.files(), *case.label_files())
    for path in (part for file in named for part in files_of(file)):
        try:
            files.append(source_file(path))
        except OSError as error:
            raise AutosegError(f"{case.case_id}: {path}: {error.strerror}.") from None
    return tuple(files)


def source_file(path: Path) -> SourceFile:
    """Size and time of a file. Raises OSError when it is gone."""
    status = path.stat()
    return SourceFile(
        path=os.fspath(path), size_bytes=status.st_size, modified_ns=status.st_mtime_ns
    )


def _prepare_and_store(item: tuple[Case, LabelScheme, Sequence[Target]]) -> None:
    case, labels, targets = item
    sources = source_files(case)
    image, label = read_case(case)
    classes = labels.encode(label.array, label.grid.spacing_mm)
    del label
    numbers = read_objects(case, image, classes, labels)
    array, grid = image.array, image.grid
    tilt = tilt_of(grid)
    if tilt is not None:
        array, grid = tilt.set_upright(array), tilt.upright
        classes = tilt.labels_upright(classes)
        numbers = None if numbers is None else tilt.labels_upright(numbers)
    for target in targets:
        prepared = prepare_scan(
            array, classes, grid, target.grid, case.case_id, labels.region_classes()
        )
        if numbers is not None:
            prepared = with_objects(prepared, numbers, labels.thing_classes)
        write_case(target.path(case.case_id), prepared, sources, target.grid.spatial_dims)
