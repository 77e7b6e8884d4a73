"""Networks run over a whole scan, and what they decide put on the scan's own grid."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.device import Device, Threads, ran_out_of_memory
from autoseg.geometry import Placement
from autoseg.inference.columns import Footprint, columns_that_fit, rows_at_once
from autoseg.inference.joining import JoinedObjects, SeenObjects
from autoseg.inference.maps import (
    BYTES_PER_VOXEL,
    PARTING_BYTES,
    Layout,
    Maps,
    MapsInProgress,
    RequestedMaps,
)
from autoseg.inference.models import GridScan, ModelGroup
from autoseg.inference.probabilities import ProbabilityFile, probability_file
from autoseg.inference.restore import Block, Column, crop_of
from autoseg.inference.sliding_window import Batching
from autoseg.inference.ways import patches_together
from autoseg.machine import GIB, free_memory_gib, used_memory_gib
from autoseg.tasks.voxel_answer import VoxelAnswer

log = logging.getLogger(__name__)

IMAGE_COPIES = 2  # of a scan on its grid, with the mask of a previous stage, and padded
FREE_MEMORY_USED = 0.8  # of what is free, where no limit is given

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WholeScan:
    """Groups of models, and a scan on the grid of each; `patches_together` are run at once, None
    being as many as suit their size."""

    groups: Sequence[ModelGroup]
    scans: Sequence[GridScan]
    device: Device
    memory_gib: float | None
    patches_together: int | None = None

    @property
    def placement(self) -> Placement:
        return self.scans[0].placement

    @property
    def outputs(self) -> int:
        """How many of the values of blocks, from the first, are scores of classes or regions."""
        return self.answer.outputs

    @property
    def further(self) -> int:
        """How many more the networks give, after which disagreement comes."""
        return self.groups[0].card.configuration.model.task.outputs - self.outputs

    @property
    def answer(self) -> VoxelAnswer:
        return self.groups[0].task.answer

    def segment(self, requested: RequestedMaps) -> Maps:
        """Run the networks over the scan."""
        return self.run(lambda batching, warnings: self._segment(requested, batching, warnings))

    def run(self, work: Callable[[Batching, Sequence[str]], T]) -> T:
        """Do what runs networks; with less at once where memory does not suffice, of which it is
        then warned."""
        batchings = self._batchings()
        warnings: list[str] = []
        for batching in batchings[:-1]:
            try:
                return work(batching, warnings)
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                reason = str(error).strip().partition("\n")[0]
                warnings.append("memory did not suffice at first, so the networks ran more slowly")
                log.warning("Memory did not suffice (%s); trying with less at once.", reason)
            if self.device.torch_device.type == "cuda":
                torch.cuda.empty_cache()
        return work(batchings[-1], warnings)

    def _batchings(self) -> list[Batching]:
        """Ways to run the networks, each with less memory on the device than the one before."""
        here = self.device.torch_device
        largest = max(prod(g.card.configuration.model.patch_box_vox) for g in self.groups)
        together = self.patches_together or patches_together(here, largest)
        places = ((together, here), (1, here), (1, torch.device("cpu")))
        ways = [Batching(*place) for place in places]
        return list(dict.fromkeys(ways))

    def _segment(
        self, requested: RequestedMaps, batching: Batching, warnings: Sequence[str]
    ) -> Maps:
        columns, rows, fits = self.cut(batching, BYTES_PER_VOXEL + PARTING_BYTES * self.further)
        notes = list(dict.fromkeys(warnings))
        if not fits:
            notes.append("memory is too small even for the smallest columns; it may be exceeded")
        compares = any(group.ensemble.shows_disagreement for group in self.groups)
        layout = Layout(self.answer, self.further, compares, self.placement)
        labels = self.groups[0].card.labels
        seen = self.groups[0].no_objects() if requested.objects else None
        with ExitStack() as stack:
            file: ProbabilityFile | None = None
            if requested.probability_file is not None:
                shape = (self.outputs, *self.placement.source_shape_vox)
                file = stack.enter_context(probability_file(requested.probability_file, shape))
                if not labels.regions:
                    file.array[0] = 1  # background, outside the crop
            maps = MapsInProgress.blank(layout, requested, labels, file)
            for block in self._blocks(columns, rows, batching, seen):
                maps.add(block)
        return maps.finished(
            tuple(notes), None if seen is None else self._objects(seen, maps.classes)
        )

    def _objects(self, seen: SeenObjects, classes: NDArray[np.uint8]) -> JoinedObjects:
        """The objects of the first group, on the scan's grid, within the class that all decided."""
        z, y, x = self.placement.resampled_shape_vox
        joined = self.groups[0].joined(seen, (z, y, x))
        numbers = np.zeros(classes.shape, np.int32)
        within = crop_of(classes, self.placement)
        crop_of(numbers, self.placement)[...] = joined.within(within)
        return replace(joined, numbers=numbers)

    def _blocks(
        self,
        columns: Sequence[Column],
        rows: int,
        batching: Batching,
        objects: SeenObjects | None,
    ) -> Iterator[Block]:
        """Scores of all groups together, block after block of the crop."""
        streams = self.streams(columns, rows, batching, objects)
        for blocks in zip(*streams, strict=True):
            if len(blocks) == 1:
                yield blocks[0]
            else:
                yield Block(blocks[0].place, self._mean([block.values for block in blocks]))

    def streams(
        self,
        columns: Sequence[Column],
        rows: int,
        batching: Batching,
        objects: SeenObjects | None = None,
    ) -> list[Iterator[Block]]:
        """Logits of each group, block after block of the same places; the objects of the first one
        are added to others."""
        threads = Threads(self.device)
        own = (objects, *[None] * (len(self.groups) - 1))
        return [
            _followed(threads, group.blocks(scan, columns, rows, batching, self.device, seen))
            for group, scan, seen in zip(self.groups, self.scans, own, strict=True)
        ]

    def _mean(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of the mean probability; and the means of what else there is, and of disagreements
        where models have any."""
        each = [self.answer.probabilities(v[: self.outputs]) for v in values]
        scores = self.answer.scores_of(mean_probability(each))
        end = self.outputs + self.further
        parts = [scores]
        if self.further:
            parts.append(torch.stack([v[self.outputs : end] for v in values]).mean(0))
        if disagreements := [v[end:] for v in values if len(v) > end]:
            parts.append(torch.stack(disagreements).mean(0))
        return torch.cat(parts)

    def cut(self, batching: Batching, bytes_per_voxel: int) -> tuple[tuple[Column, ...], int, bool]:
        """Columns, how many rows of them at once, and whether they fit into memory beside results
        that take so much for each voxel of the source."""
        footprints = [
            group.footprint(scan.placement)
            for group, scan in zip(self.groups, self.scans, strict=True)
        ]
        columns, fits = self._columns(footprints, batching, bytes_per_voxel)
        return columns, min(rows_at_once(footprints, column) for column in columns), fits

    def _columns(
        self, footprints: Sequence[Footprint], batching: Batching, bytes_per_voxel: int
    ) -> tuple[tuple[Column, ...], bool]:
        running = max(footprint.network_bytes(batching.inputs_at_once) for footprint in footprints)
        images = sum(IMAGE_COPIES * scan.nbytes for scan in self.scans)
        if batching.sums_on.type == "cuda":
            device = batching.sums_on
            free, _ = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return columns_that_fit(footprints, FREE_MEMORY_USED * free - running - images)
        free_gib = FREE_MEMORY_USED * free_memory_gib()
        if self.memory_gib is not None:
            free_gib = min(free_gib, self.memory_gib - used_memory_gib())
        if self.device.torch_device.type == "cuda":
            running = 0  # there, not here
        maps = bytes_per_voxel * prod(self.placement.source_shape_vox)
        return columns_that_fit(footprints, GIB * free_gib - running - images - maps)


def _followed(threads: Threads, blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks, made with as many threads as others leave cores for."""
    with closing(threads):
        for block in blocks:
            threads.follow()
            yield block


def mean_probability(each: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of several configurations."""
    return torch.stack(list(each)).mean(0)
