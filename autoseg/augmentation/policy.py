"""The augmentation policy: parameters drawn for each sample, then applied to the whole batch.

Every transform has two halves: `draw_augmentation` draws all parameters of a sample from its own
random generator, and a deterministic twin applies them on the training device.
"""

from collections.abc import Sequence

import numpy as np
import torch

from autoseg.augmentation import intensity, spatial
from autoseg.augmentation.sample import Batch, FloatArray, RawSample, SampleAugmentation
from autoseg.geometry import Shape3
from autoseg.planning.plan import AugmentationPlan, RandomRange


def draw_augmentation(
    plan: AugmentationPlan, channel_count: int, rng: np.random.Generator
) -> SampleAugmentation:
    """Draw every parameter of one sample."""
    return SampleAugmentation(
        matrix=_draw_matrix(plan, rng),
        mirrored_axes=tuple(a for a in plan.mirror_axes if rng.random() < plan.mirror_probability),
        noise_std=float(_draw(plan.noise_std, (1,), 0.0, rng)[0]),
        noise_seed=int(rng.integers(2**62)),
        blur_sigma_vox=_draw(plan.blur_sigma_vox, (channel_count, 3), 0.0, rng),
        brightness=_draw_multiplier(plan.brightness, channel_count, rng),
        contrast=_draw_multiplier(plan.contrast, channel_count, rng),
        low_resolution=_draw(plan.low_resolution, (channel_count,), 1.0, rng),
        inverted_gamma=_draw_multiplier(plan.inverted_gamma, channel_count, rng),
        gamma=_draw_multiplier(plan.gamma, channel_count, rng),
    )


def no_augmentation(channel_count: int) -> SampleAugmentation:
    """Parameters that leave a sample as it is."""
    ones = np.ones(channel_count)
    blur = np.zeros((channel_count, 3))
    return SampleAugmentation(None, (), 0.0, 0, blur, ones, ones, ones, ones, ones)


def augment_batch(
    samples: Sequence[RawSample],
    patch_size_vox: Shape3,
    masked_channels: Sequence[int],
    planar: bool,
    device: torch.device,
) -> Batch:
    """Cut the patches out of their boxes and apply each sample's parameters, on the device.

    `masked_channels` are those whose normalisation leaves 0 outside the body; voxels there return
    to 0 at the end. With `planar`, low resolution is simulated within slices only.
    """
    image, label, outside = spatial.cut_patches(samples, patch_size_vox, device)
    drawn = [sample.augmentation for sample in samples]
    batch, channels = image.shape[:2]
    intensity.add_noise(image, [(a.noise_std, a.noise_seed) for a in drawn])
    rows = image.view(batch * channels, *image.shape[2:])  # [row, z, y, x]
    intensity.blur(rows, np.concatenate([a.blur_sigma_vox for a in drawn]))
    intensity.scale_brightness(rows, np.concatenate([a.brightness for a in drawn]))
    intensity.scale_contrast(rows, np.concatenate([a.contrast for a in drawn]))
    zoomed_axes = (1, 2) if planar else (0, 1, 2)
    zoom = np.concatenate([a.low_resolution for a in drawn])
    intensity.lower_resolution(rows, zoom, zoomed_axes)
    inverted = np.concatenate([a.inverted_gamma for a in drawn])
    intensity.apply_gamma(rows, inverted, invert=True)
    intensity.apply_gamma(rows, np.concatenate([a.gamma for a in drawn]), invert=False)
    if outside is not None:
        for channel in masked_channels:
            image[:, channel][outside] = 0
    return Batch(image, label, tuple(sample.case_id for sample in samples))


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
