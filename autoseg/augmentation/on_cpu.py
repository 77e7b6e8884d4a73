"""The augmentation policy by batchgenerators, on the CPU, for machines whose GPU is the bottleneck.

The same transforms with the same probabilities and ranges as on the training device, drawn and
applied by another implementation, sample by sample. It works in batchgenerators' way, which is to
draw from global random states: only processes of their own may call it.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import (
    GaussianBlurTransform,
    GaussianNoiseTransform,
)
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Shape3
from autoseg.planning.plan import AugmentationPlan, Range

COIN = 0.5  # the only probability that batchgenerators mirrors an axis with


def largest_reach(plan: AugmentationPlan, patch_size_vox: Shape3) -> NDArray[np.int64]:
    """The box [z, y, x] that holds every corner of a patch however it is turned and scaled."""
    size = np.array(patch_size_vox, dtype=float)
    turned = size[1:] if plan.planar else size
    diagonal = float(np.linalg.norm(turned)) * max(1.0, plan.scaling.range[1])
    reach = np.array([size[0], diagonal, diagonal] if plan.planar else [diagonal] * 3)
    margin = np.array([0 if plan.planar else 1, 1, 1])
    box: NDArray[np.int64] = np.ceil(reach).astype(int) + margin
    return box


class CpuPolicy:
    """A plan's transforms, to be applied to arrays image [channel, z, y, x] and masks alike."""

    def __init__(self, plan: AugmentationPlan, patch_size_vox: Shape3) -> None:
        if plan.elastic_vox.probability > 0 or plan.mirror_probability != COIN:
            raise AutosegError(
                "training.augment_on = workers knows neither elastic deformation nor another "
                "probability of mirroring than one half. Augment on the device."
            )
        by_channel = (plan.noise_std, plan.brightness, plan.contrast, plan.gamma)
        if any(drawn.channel_probability != 1 for drawn in (*by_channel, plan.inverted_gamma)):
            raise AutosegError(
                "training.augment_on = workers changes noise, brightness, contrast and gamma of "
                "all channels or none: set their channel_probability to 1."
            )
        self.planar = plan.planar
        patch = patch_size_vox[1:] if plan.planar else patch_size_vox
        self.spatial = _spatial(plan, patch)
        self.intensity = Compose(_intensity(plan))

    def __call__(
        self, image: NDArray[np.float32], masks: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The transformed patch of image and masks [mask, z, y, x], from the middle of a box."""
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        channels, depth = len(image), image.shape[1]
        if self.planar:  # slices become channels
            image = image.reshape(-1, *image.shape[2:])
            masks = masks.reshape(-1, *masks.shape[2:])
        moved = self.spatial(data=image[None], seg=masks[None].astype(np.float32))
        patch, labels = moved["data"][0], moved["seg"][0]
        if self.planar:
            patch = patch.reshape(channels, depth, *patch.shape[1:])
            labels = labels.reshape(-1, depth, *labels.shape[1:])
        done = self.intensity(data=patch[None], seg=labels[None])
        return (
            np.ascontiguousarray(done["data"][0], dtype=np.float32),
            np.ascontiguousarray(done["seg"][0].astype(np.uint8)),
        )


def _spatial(plan: AugmentationPlan, patch: Sequence[int]) -> AbstractTransform:
    low, high = np.deg2rad(plan.rotation_degrees.range)
    angles: Range = (float(low), float(high))
    return SpatialTransform(
        patch,
        patch_center_dist_from_border=None,
        do_elastic_deform=False,
        do_rotation=plan.rotation_degrees.probability > 0,
        angle_x=angles,
        angle_y=angles,
        angle_z=angles,
        do_scale=plan.scaling.probability > 0,
        scale=plan.scaling.range,
        border_mode_data="constant",
        border_cval_data=0,
        order_data=1,
        border_mode_seg="constant",
        border_cval_seg=0,
        order_seg=1,
        random_crop=False,
        p_rot_per_sample=plan.rotation_degrees.probability,
        p_scale_per_sample=plan.scaling.probability,
        independent_scale_for_each_axis=False,
    )


def _intensity(plan: AugmentationPlan) -> list[Any]:
    """In the order in which the training device applies them."""
    transforms = [
        GaussianNoiseTransform(plan.noise_std.range, p_per_sample=plan.noise_std.probability),
        GaussianBlurTransform(
            plan.blur_sigma_vox.range,
            different_sigma_per_channel=True,
            different_sigma_per_axis=True,
            p_isotropic=0,
            p_per_sample=plan.blur_sigma_vox.probability,
            p_per_channel=plan.blur_sigma_vox.channel_probability,
        ),
        BrightnessMultiplicativeTransform(
            plan.brightness.range, p_per_sample=plan.brightness.probability
        ),
        ContrastAugmentationTransform(plan.contrast.range, p_per_sample=plan.contrast.probability),
        SimulateLowResolutionTransform(
            plan.low_resolution.range,
            per_channel=True,
            p_per_channel=plan.low_resolution.channel_probability,
            order_downsample=0,
            order_upsample=1,
            p_per_sample=plan.low_resolution.probability,
            ignore_axes=(0,) if plan.planar else None,
        ),
    ]
    for drawn, inverts in ((plan.inverted_gamma, True), (plan.gamma, False)):
        transforms.append(
            GammaTransform(
                drawn.range,
                invert_image=inverts,
                per_channel=True,
                retain_stats=True,
                p_per_sample=drawn.probability,
            )
        )
    if plan.mirror_axes:
        transforms.append(MirrorTransform(plan.mirror_axes))
    return transforms
