"""Which patches to train on: foreground oversampled, every draw keyed so that runs repeat."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.augmentation.policy import draw_augmentation, no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import source_box
from autoseg.geometry import Shape3
from autoseg.planning.run_plan import AugmentationPlan, TrainingPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.reading import ChosenPatch, read_sample

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
        chosen = self.choose(step, indices)
        return [read_sample(self.cases[patch.case_id], patch) for patch in chosen]

    def choose(self, step: int, indices: Iterable[int] | None = None) -> list[ChosenPatch]:
        """What `draw` reads, chosen without reading any voxel."""
        chosen = range(self.batch_size) if indices is None else indices
        return [self._choose_patch(step, index) for index in chosen]

    def _choose_patch(self, step: int, index: int) -> ChosenPatch:
        rng = np.random.default_rng((self.seed, PURPOSE_KEY[self.purpose], step, index))
        case_id = list(self.cases)[rng.integers(len(self.cases))]
        case, size = self.cases[case_id], self.patch_size_vox
        start = choose_start(case, size, self._is_forced(step, index, rng), rng)
        channels = case.image.shape[0]
        if self.augmentation is None:
            augmentation = no_augmentation(channels)
        else:
            augmentation = draw_augmentation(self.augmentation, channels, size, rng)
        box, centre = source_box(start, size, augmentation)
        return ChosenPatch(case_id, box, centre, augmentation)

    def _is_forced(self, step: int, index: int, rng: np.random.Generator) -> bool:
        """Whether a sample is centred on foreground: the last are of those that the optimiser takes
        a step with, in however many batches, or any by chance."""
        fraction = self.training.foreground_fraction
        if self.training.oversampling == "probabilistic":
            return bool(rng.random() < fraction)
        batches = self.training.accumulated_batches if self.purpose == "training" else 1
        place = step % batches * self.batch_size + index
        return place >= round(batches * self.batch_size * (1 - fraction))


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
        voxel = locations[int(rng.integers(len(locations)))].astype(int)
        centred = [int(v) - patch // 2 for v, patch in zip(voxel, patch_size_vox, strict=True)]
        return [min(max(c, low), high) for c, (low, high) in zip(centred, bounds, strict=True)]
    return [int(rng.integers(low, high + 1)) for low, high in bounds]
