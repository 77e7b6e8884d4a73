"""Which patches to train on: foreground oversampled, every draw keyed so that runs repeat."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.augmentation.masks import change_mask
from autoseg.augmentation.policy import draw_augmentation, no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import source_box
from autoseg.geometry import Shape3
from autoseg.planning.plan import AugmentationPlan, TrainingPlan
from autoseg.preprocessing.store import StoredCase

Purpose = Literal["training", "validation"]
PURPOSE_KEY: dict[Purpose, int] = {"training": 0, "validation": 1}


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """Draws the samples of any step.

    Every sample has a random generator of its own, keyed by (seed, purpose, step, index), so a
    step's samples are the same whatever was drawn before and however many threads draw.
    `augmentation` is None for plain patches.
    """

    cases: dict[str, StoredCase]
    patch_size_vox: Shape3
    batch_size: int
    training: TrainingPlan
    augmentation: AugmentationPlan | None
    seed: int
    purpose: Purpose

    def draw(self, step: int, indices: Iterable[int] | None = None) -> list[RawSample]:
        """The raw samples of one step, or those of a batch that a process has as its share."""
        chosen = range(self.batch_size) if indices is None else indices
        return [self._draw_sample(step, index) for index in chosen]

    def choose(self, step: int, index: int) -> tuple[np.random.Generator, str, list[int]]:
        """A sample's own random generator, its case, and the first voxel of its patch."""
        rng = np.random.default_rng((self.seed, PURPOSE_KEY[self.purpose], step, index))
        case_id = list(self.cases)[rng.integers(len(self.cases))]
        forced = self._is_forced(index, rng)
        return rng, case_id, choose_start(self.cases[case_id], self.patch_size_vox, forced, rng)

    def _draw_sample(self, step: int, index: int) -> RawSample:
        rng, case_id, start = self.choose(step, index)
        case, size = self.cases[case_id], self.patch_size_vox
        channels = case.image.shape[0]
        if self.augmentation is None:
            augmentation = no_augmentation(channels)
        else:
            augmentation = draw_augmentation(self.augmentation, channels, size, rng)
        box, centre = source_box(start, size, augmentation)
        patch = case.read(box)
        previous = patch.previous
        if previous is not None:
            previous = change_mask(previous, augmentation.mask)
        return RawSample(
            case_id, patch.image, patch.label, patch.outside, previous, centre, augmentation
        )

    def _is_forced(self, index: int, rng: np.random.Generator) -> bool:
        """Whether a sample is centred on foreground: the last of a batch are, or any by chance."""
        fraction = self.training.foreground_fraction
        if self.training.oversampling == "probabilistic":
            return bool(rng.random() < fraction)
        return index >= round(self.batch_size * (1 - fraction))


def choose_start(
    case: StoredCase, patch_size_vox: Shape3, forced: bool, rng: np.random.Generator
) -> list[int]:
    """First voxel of a patch: anywhere, or centred on a voxel of a class drawn uniformly.

    Where parts of a case are not annotated, anywhere is around any voxel that is. The patch stays
    inside the case, or around it along axes where it is larger.
    """
    bounds = []
    for patch, size in zip(patch_size_vox, case.shape_vox, strict=True):
        missing = max(0, patch - size)
        bounds.append((-((missing + 1) // 2), max(size, patch) - patch - missing // 2))
    locations = case.annotated_locations
    if forced and case.class_locations:
        classes = sorted(case.class_locations)
        locations = case.class_locations[classes[rng.integers(len(classes))]]
    if locations is not None:
        voxel = locations[rng.integers(len(locations))].astype(int)
        centred = [int(v) - patch // 2 for v, patch in zip(voxel, patch_size_vox, strict=True)]
        return [min(max(c, low), high) for c, (low, high) in zip(centred, bounds, strict=True)]
    return [int(rng.integers(low, high + 1)) for low, high in bounds]


def prefetch(
    draw: Callable[[int], list[RawSample]], steps: Iterator[int], threads: int, ahead: int
) -> Generator[list[RawSample], None, None]:
    """Yield the samples of each step in order, while threads read those that follow.

    An error while reading is raised here, at its step.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sampling")
    pending: deque[Future[list[RawSample]]] = deque()
    try:
        for step in steps:
            pending.append(pool.submit(draw, step))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
