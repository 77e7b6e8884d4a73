"""Which patches to train on: foreground oversampled, every draw keyed so that runs repeat."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.augmentation.policy import draw_augmentation, no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import source_box
from autoseg.geometry import Shape3
from autoseg.planning.plan import AugmentationPlan
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
    foreground_fraction: float
    augmentation: AugmentationPlan | None
    seed: int
    purpose: Purpose

    def draw(self, step: int) -> list[RawSample]:
        """The raw samples of one step."""
        return [self._draw_sample(step, index) for index in range(self.batch_size)]

    def _draw_sample(self, step: int, index: int) -> RawSample:
        rng = np.random.default_rng((self.seed, PURPOSE_KEY[self.purpose], step, index))
        case_id = list(self.cases)[rng.integers(len(self.cases))]
        case = self.cases[case_id]
        channels = case.image.shape[0]
        if self.augmentation is None:
            augmentation = no_augmentation(channels)
        else:
            augmentation = draw_augmentation(self.augmentation, channels, rng)
        # The last third of a batch is centred on foreground.
        forced = index >= round(self.batch_size * (1 - self.foreground_fraction))
        start = choose_start(case, self.patch_size_vox, forced, rng)
        box, centre = source_box(start, self.patch_size_vox, augmentation.matrix)
        image, label, outside = case.read(box)
        return RawSample(case_id, image, label, outside, centre, augmentation)


def choose_start(
    case: StoredCase, patch_size_vox: Shape3, forced: bool, rng: np.random.Generator
) -> list[int]:
    """First voxel of a patch: anywhere, or centred on a voxel of a class drawn uniformly.

    The patch stays inside the case, or around it along axes where it is larger.
    """
    bounds = []
    for patch, size in zip(patch_size_vox, case.shape_vox, strict=True):
        missing = max(0, patch - size)
        bounds.append((-((missing + 1) // 2), max(size, patch) - patch - missing // 2))
    if forced and case.class_locations:
        classes = sorted(case.class_locations)
        locations = case.class_locations[classes[rng.integers(len(classes))]]
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
