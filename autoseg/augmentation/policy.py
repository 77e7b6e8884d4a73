"""The augmentation policy: parameters drawn for each sample, then applied to the whole batch.

Every transform has two halves: `draw_augmentation` draws all parameters of a sample from its own
random generator, and a deterministic twin applies them, on the training device or in a process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autoseg.augmentation import intensity, spatial
from autoseg.augmentation.batch import Batch
from autoseg.augmentation.change import apply_changes
from autoseg.augmentation.sample import (
    FloatArray,
    MaskAugmentation,
    RawSample,
    SampleAugmentation,
)
from autoseg.geometry import Shape3
from autoseg.planning.run_plan import AugmentationPlan, RandomRange


def draw_augmentation(
    plan: AugmentationPlan, channel_count: int, patch_size_vox: Shape3, rng: np.random.Generator
) -> SampleAugmentation:
    """Draw every parameter of one sample."""
    matrix = _draw_matrix(plan, rng)
    displacement = _draw_displacement(plan, patch_size_vox, rng)
    if displacement is not None and matrix is None:
        matrix = np.eye(3)
    return SampleAugmentation(
        matrix=matrix,
        displacement_vox=displacement,
        mirrored_axes=tuple(a for a in plan.mirror_axes if rng.random() < plan.mirror_probability),
        noise_std=float(_draw(plan.noise_std, (1,), 0.0, rng)[0]),
        noise_seed=int(rng.integers(2**62)),
        blur_sigma_vox=_draw(plan.blur_sigma_vox, (channel_count, 3), 0.0, rng),
        brightness=_draw_multiplier(plan.brightness, channel_count, rng),
        contrast=_draw_multiplier(plan.contrast, channel_count, rng),
        low_resolution=_draw(plan.low_resolution, (channel_count,), 1.0, rng),
        inverted_gamma=_draw_multiplier(plan.inverted_gamma, channel_count, rng),
        gamma=_draw_multiplier(plan.gamma, channel_count, rng),
        mask=_draw_mask_changes(plan, patch_size_vox, rng),
    )


def no_augmentation(channel_count: int) -> SampleAugmentation:
    """Parameters that leave a sample as it is."""
    ones = np.ones(channel_count)
    blur = np.zeros((channel_count, 3))
    unchanged = MaskAugmentation(0, False, 0, 0)
    return SampleAugmentation(None, None, (), 0.0, 0, blur, ones, ones, ones, ones, ones, unchanged)


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What a batch looks like: its patches, and the `masked_channels`, whose normalisation leaves 0
    outside the body.

    With `planar`, low resolution is simulated within slices only.
    """

    patch_size_vox: Shape3
    masked_channels: tuple[int, ...]
    planar: bool


def augment_batch(samples: Sequence[RawSample], shape: BatchShape, device: torch.device) -> Batch:
    """Cut the patches out of their boxes and apply each sample's parameters, on the device.

    Voxels outside the body return to 0 at the end.
    """
    patches = augment_patches(samples, shape.patch_size_vox, shape.planar, device)
    image = patches.image
    if patches.outside is not None:
        for channel in shape.masked_channels:
            image[:, channel].masked_fill_(patches.outside, 0)
    names = tuple(sample.case_id for sample in samples)
    return Batch(image, patches.label, patches.maps, names, patches.objects)


def augment_patches(
    samples: Sequence[RawSample], patch_size_vox: Shape3, planar: bool, device: torch.device
) -> spatial.Patches:
    """Every sample's patch with its parameters applied; `planar` as in `BatchShape`.

    Rounding depends on which samples come together: boxes are padded to a common size, and torch
    sums up one row in another order than several.
    """
    patches = spatial.empty_patches(samples, patch_size_vox, device)
    rows = patches.image.view(-1, *patches.image.shape[2:])  # [row, z, y, x]
    drawn = [sample.augmentation for sample in samples]
    inverted = np.concatenate([a.inverted_gamma for a in drawn])
    changes = (
        spatial.place(patches, samples),
        spatial.warp(patches, samples),
        spatial.mirror(patches, samples),
        intensity.add_noise(patches.image, [(a.noise_std, a.noise_seed) for a in drawn]),
        intensity.blur(rows, np.concatenate([a.blur_sigma_vox for a in drawn])),
        intensity.scale_brightness(rows, np.concatenate([a.brightness for a in drawn])),
        intensity.scale_contrast(rows, np.concatenate([a.contrast for a in drawn])),
        intensity.lower_resolution(
            rows, np.concatenate([a.low_resolution for a in drawn]), (1, 2) if planar else (0, 1, 2)
        ),
        intensity.apply_gamma(rows, inverted, invert=True),
        intensity.apply_gamma(rows, np.concatenate([a.gamma for a in drawn]), invert=False),
    )
    apply_changes(changes, device)
    return patches


def _draw(
    drawn: RandomRange, shape: tuple[int, ...], neutral: float, rng: np.random.Generator
) -> FloatArray:
    """Uniform values, or neutral ones when the sample, or a channel of it, is spared."""
    low, high = drawn.range
    applies = rng.random() < drawn.probability
    chosen = rng.random(shape[0]) < drawn.channel_probability
    values = rng.uniform(low, high, shape)
    keep = (applies & chosen).reshape(-1, *(1,) * (len(shape) - 1))
    return np.where(keep, values, neutral)


def _draw_multiplier(
    drawn: RandomRange, channel_count: int, rng: np.random.Generator
) -> FloatArray:
    """Multipliers that lie below and above 1 equally often, uniform on each side."""
    low, high = drawn.range
    applies = rng.random() < drawn.probability
    chosen = rng.random(channel_count) < drawn.channel_probability
    below = rng.uniform(low, min(1.0, high), channel_count)
    above = rng.uniform(max(1.0, low), high, channel_count)
    reduces = (rng.random(channel_count) < 0.5) & (low < 1)
    return np.where(applies & chosen, np.where(reduces, below, above), 1.0)


def _draw_matrix(plan: AugmentationPlan, rng: np.random.Generator) -> FloatArray | None:
    rotates = rng.random() < plan.rotation_degrees.probability
    scales = rng.random() < plan.scaling.probability
    degrees = rng.uniform(*plan.rotation_degrees.range, 3)
    factor = rng.uniform(*plan.scaling.range)
    if not rotates and not scales:
        return None
    if not rotates:
        degrees = np.zeros(3)
    elif plan.planar:
        degrees[1:] = 0
    scale = np.full(3, factor if scales else 1.0)
    if plan.planar:
        scale[0] = 1
    return spatial.rotation_matrix(np.deg2rad(degrees)) @ np.diag(scale)


def _draw_displacement(
    plan: AugmentationPlan, patch_size_vox: Shape3, rng: np.random.Generator
) -> FloatArray | None:
    """Displacements [axis, *control points] of an elastic deformation; None for most samples."""
    if plan.elastic_vox.probability == 0 or rng.random() >= plan.elastic_vox.probability:
        return None
    most = rng.uniform(*plan.elastic_vox.range)
    counts = spatial.control_counts(patch_size_vox, plan.elastic_spacing_vox)
    displacement = rng.uniform(-most, most, (3, *counts))
    if plan.planar:
        displacement[0] = 0
    return displacement


def _draw_mask_changes(
    plan: AugmentationPlan, patch_size_vox: Shape3, rng: np.random.Generator
) -> MaskAugmentation:
    morphology = plan.mask_morphology_vox
    smallest, largest = morphology.range
    radius = int(rng.integers(round(smallest), round(largest) + 1))
    applies = rng.random() < morphology.probability
    return MaskAugmentation(
        radius_vox=radius if applies else 0,
        loses_component=bool(rng.random() < plan.mask_component_loss_probability),
        largest_lost_vox=int(plan.mask_component_loss_fraction * np.prod(patch_size_vox)),
        seed=int(rng.integers(2**62)),
    )
