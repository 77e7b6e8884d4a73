"""Networks run over a whole scan, and what they decide put on the scan's own grid."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.device import Device, ran_out_of_memory
from autoseg.geometry import Placement
from autoseg.inference.decide import decide, entropy, probabilities, scores_of
from autoseg.inference.memory import Footprint, columns_that_fit, rows_at_once
from autoseg.inference.models import ModelGroup, Stack
from autoseg.inference.probabilities import ProbabilityFile, probability_file
from autoseg.inference.restore import Block, Column, crop_of
from autoseg.inference.sliding_window import Economy
from autoseg.machine import GIB, free_memory_gib, used_memory_gib

log = logging.getLogger(__name__)

VOXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**22}  # of patches that are run together
IMAGE_COPIES = 2  # of a scan on its grid, with the mask of a previous stage, and padded
BYTES_PER_VOXEL = 11  # of the source: classes, two maps of uncertainty, labels
USABLE = 0.8  # of the memory that is free, where no limit is given


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make besides the mask: maps of uncertainty, and a file of probabilities."""

    uncertainty: bool = False
    probability_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Maps:
    """Class indices [z, y, x] on a scan's grid, maps of uncertainty, and what to warn of."""

    classes: NDArray[np.uint8]
    entropy: NDArray[np.float32] | None
    disagreement: NDArray[np.float32] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WholeScan:
    """Groups of models, and a scan on the grid of each."""

    groups: Sequence[ModelGroup]
    stacks: Sequence[Stack]
    device: Device
    memory_gib: float | None

    @property
    def placement(self) -> Placement:
        return self.stacks[0].placement

    @property
    def outputs(self) -> int:
        return self.groups[0].card.labels.output_count

    @property
    def decides_regions(self) -> bool:
        return bool(self.groups[0].card.labels.regions)

    def segment(self, wanted: Wanted) -> Maps:
        """Run the networks; with less at once where memory does not suffice."""
        economies = self._economies()
        warnings: list[str] = []
        for economy in economies[:-1]:
            try:
                return self._segment(wanted, economy, warnings)
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                reason = str(error).strip().partition("\n")[0]
                warnings.append("memory did not suffice at first, so the networks ran more slowly")
                log.warning("Memory did not suffice (%s); trying with less at once.", reason)
            if self.device.torch_device.type == "cuda":
                torch.cuda.empty_cache()
        return self._segment(wanted, economies[-1], warnings)

    def _economies(self) -> list[Economy]:
        """Ways to run the networks, each with less memory on the device than the one before."""
        here = self.device.torch_device
        largest = max(prod(g.card.configuration.patch_box_vox) for g in self.groups)
        together = max(1, VOXELS_AT_ONCE[here.type] // largest)
        ways = [Economy(together, here), Economy(1, here), Economy(1, torch.device("cpu"))]
        return list(dict.fromkeys(ways))

    def _segment(self, wanted: Wanted, economy: Economy, warnings: Sequence[str]) -> Maps:
        footprints = [
            group.footprint(stack.placement)
            for group, stack in zip(self.groups, self.stacks, strict=True)
        ]
        columns, fits = self._columns(footprints, economy)
        rows = min(rows_at_once(footprints, column) for column in columns)
        notes = list(dict.fromkeys(warnings))
        if not fits:
            notes.append("memory is too small even for the smallest columns; it may be exceeded")
        shape = self.placement.source_shape_vox
        compares = any(group.ensemble.shows_disagreement for group in self.groups)
        classes = np.zeros(shape, np.uint8)
        doubt = np.zeros(shape, np.float32) if wanted.uncertainty else None
        disagreement = np.zeros(shape, np.float32) if compares else None
        with ExitStack() as stack:
            file: ProbabilityFile | None = None
            if wanted.probability_file is not None:
                whole = (self.outputs, *shape)
                file = stack.enter_context(probability_file(wanted.probability_file, whole))
                if not self.decides_regions:
                    file.array[0] = 1  # background, outside the crop
            for block in self._blocks(columns, rows, economy):
                scores = block.values[: self.outputs]
                _put(classes, self.placement, block, decide(scores, self.decides_regions))
                if doubt is None and file is None:
                    continue
                probability = probabilities(scores, self.decides_regions)
                if doubt is not None:
                    _put(doubt, self.placement, block, entropy(probability, self.decides_regions))
                if disagreement is not None:
                    _put(disagreement, self.placement, block, block.values[-1])
                if file is not None:
                    _put(file.array, self.placement, block, probability)
                    file.settle()
        return Maps(classes, doubt, disagreement, tuple(notes))

    def _blocks(self, columns: Sequence[Column], rows: int, economy: Economy) -> Iterator[Block]:
        """Scores of all groups together, block after block of the crop."""
        streams = [
            group.blocks(stack, columns, rows, economy, self.device)
            for group, stack in zip(self.groups, self.stacks, strict=True)
        ]
        for blocks in zip(*streams, strict=True):
            if len(blocks) == 1:
                yield blocks[0]
            else:
                yield Block(blocks[0].place, self._mean([block.values for block in blocks]))

    def _mean(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of the mean probability; and the mean of disagreements, where models have any."""
        each = torch.stack([probabilities(v[: self.outputs], self.decides_regions) for v in values])
        scores = scores_of(each.mean(0), self.decides_regions)
        disagreements = [v[self.outputs :] for v in values if len(v) > self.outputs]
        if not disagreements:
            return scores
        return torch.cat((scores, torch.stack(disagreements).mean(0)))

    def _columns(
        self, footprints: Sequence[Footprint], economy: Economy
    ) -> tuple[tuple[Column, ...], bool]:
        running = max(footprint.network_bytes(economy.inputs_at_once) for footprint in footprints)
        images = sum(
            IMAGE_COPIES
            * (stack.image.nbytes + (stack.previous is not None) * stack.image[0].nbytes)
            for stack in self.stacks
        )
        if economy.sums_on.type == "cuda":
            device = economy.sums_on
            free, _ = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return columns_that_fit(footprints, USABLE * free - running - images)
        free_gib = USABLE * free_memory_gib()
        if self.memory_gib is not None:
            free_gib = min(free_gib, self.memory_gib - used_memory_gib())
        if self.device.torch_device.type == "cuda":
            running = 0  # there, not here
        maps = BYTES_PER_VOXEL * prod(self.placement.source_shape_vox)
        return columns_that_fit(footprints, GIB * free_gib - running - images - maps)


def _put(
    whole: NDArray[np.generic], placement: Placement, block: Block, values: torch.Tensor
) -> None:
    """Write a block's values [..., rows, y, x] where they belong on the scan's grid."""
    crop_of(whole, placement)[..., *block.place] = values.cpu().numpy()
