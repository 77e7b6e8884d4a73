"""Masks of several ensembles of the same models at once: networks run once for all of them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.images.volume import Volume
from autoseg.inference.confidence import ConfidenceSums, presence
from autoseg.inference.predictor import Predictor, ReadyScan
from autoseg.inference.reliability import ReliabilitySums, Truth
from autoseg.inference.restore import Block, crop_of
from autoseg.inference.sliding_window import Batching
from autoseg.inference.whole_scan import WholeScan, mean_probability
from autoseg.postprocessing.steps import Confidence

Subset = tuple[int, ...]  # groups of a predictor by number, in order


@dataclass(frozen=True, slots=True)
class SubsetMask:
    """What an ensemble finds: labels [z, y, x] on the scan's own grid, and how sure it is; by class
    or region, and bins of probability, what `ReliabilitySums` count, if a reference is given."""

    labels: Volume
    confidences: dict[str, Confidence]
    reliability: dict[str, NDArray[np.float64]] | None = None  # [3, bin]


@dataclass(frozen=True, slots=True)
class SubsetMasks:
    """A mask for each subset of a predictor's groups, and the seconds that each group took."""

    masks: dict[Subset, SubsetMask]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Class indices [z, y, x] of a scan, and bins of probability that are compared with them."""

    classes: NDArray[np.uint8]
    bins: int


@dataclass(frozen=True, slots=True)
class _Asked:
    subsets: Sequence[Subset]
    reference: Reference | None


@dataclass(frozen=True, slots=True)
class _Found:
    classes: NDArray[np.uint8]  # [z, y, x]
    sums: ConfidenceSums
    reliability: ReliabilitySums | None

    def mask(self, ready: ReadyScan, labels: LabelScheme) -> SubsetMask:
        confidences = presence(self.sums.result())
        counted = None if self.reliability is None else self.reliability.result()
        return SubsetMask(
            ready.with_values(labels.decode(self.classes)),
            confidences,
            None if counted is None else dict(zip(confidences, counted, strict=True)),
        )


def segment_subsets(
    predictor: Predictor,
    ready: ReadyScan,
    subsets: Sequence[Subset],
    reference: Reference | None = None,
) -> SubsetMasks:
    """The masks that `Predictor.segment` gives with each subset of the groups alone.

    Each network runs once; of every block of the scan the mean probability is decided upon for each
    subset. Held are the class indices of all subsets, a byte for each and voxel, and one block.
    """
    seconds, scans = [], []
    for group, own, first in zip(predictor.groups, ready.scans, ready.first_scans, strict=True):
        started = time.perf_counter()
        scans.append(predictor.after_first_stage(group, own, first)[0])
        seconds.append(time.perf_counter() - started)
    whole = WholeScan(
        predictor.groups, scans, predictor.device, predictor.memory_gib, predictor.way.together
    )
    asked = _Asked(subsets, reference)
    found, spent = whole.run(lambda batching, _: _decide(whole, asked, batching))
    masks = {subset: own.mask(ready, predictor.card.labels) for subset, own in found.items()}
    return SubsetMasks(masks, tuple(a + b for a, b in zip(seconds, spent, strict=True)))


def _decide(
    whole: WholeScan, asked: _Asked, batching: Batching
) -> tuple[dict[Subset, _Found], list[float]]:
    """What each subset decides, and the seconds that each group took."""
    columns, rows, _ = whole.cut(batching, bytes_per_voxel=2 * len(asked.subsets))
    shape, labels = whole.placement.source_shape_vox, whole.groups[0].card.labels
    truth, found = None, {}
    if asked.reference is not None:
        truth = Truth.of(crop_of(asked.reference.classes, whole.placement), labels)
    for subset in asked.subsets:
        bins = ReliabilitySums(labels, asked.reference.bins) if asked.reference else None
        found[subset] = _Found(np.zeros(shape, np.uint8), ConfidenceSums(labels), bins)
    spent = [0.0] * len(whole.groups)
    streams = [
        _timed(stream, spent, index)
        for index, stream in enumerate(whole.streams(columns, rows, batching))
    ]
    for blocks in zip(*streams, strict=True):
        there = None if truth is None else truth.in_block(blocks[0])
        each = [whole.answer.probabilities(block.values[: whole.outputs]) for block in blocks]
        for subset, own in found.items():
            if len(subset) == 1:
                probability = each[subset[0]]
                scores = blocks[subset[0]].values[: whole.outputs]
            else:
                probability = mean_probability([each[index] for index in subset])
                scores = whole.answer.scores_of(probability)
            classes = whole.answer.decode(scores)
            crop_of(own.classes, whole.placement)[blocks[0].place] = classes.cpu().numpy()
            own.sums.add(probability, classes)
            if there is not None and own.reliability is not None:
                own.reliability.add(probability, there)
    return found, spent


def _timed(stream: Iterator[Block], spent: list[float], index: int) -> Iterator[Block]:
    """A stream whose seconds are added up; on a GPU, those until its work is queued and copied."""
    while True:
        started = time.perf_counter()
        block = next(stream, None)
        spent[index] += time.perf_counter() - started
        if block is None:
            return
        yield block
