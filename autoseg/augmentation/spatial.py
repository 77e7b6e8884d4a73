"""Rotation, scaling and mirroring, on the training device.

The transform is drawn before anything is read, so that the box that is read holds every corner of
the transformed patch.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from autoseg.augmentation.sample import RawSample
from autoseg.geometry import Box, Shape3

CLASSES_AT_ONCE = 8  # indicators that are interpolated together, which bounds memory


def rotation_matrix(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about array axes 0, 1 and 2, applied in this order, as a matrix [3, 3]."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def source_box(
    start_vox: Sequence[int], patch_size_vox: Shape3, matrix: NDArray[np.float64] | None
) -> tuple[Box, NDArray[np.float64]]:
    """The box to read for a patch that starts at `start_vox`, and the patch centre inside it."""
    size = np.array(patch_size_vox)
    start = np.array(start_vox)
    centre = start + (size - 1) / 2
    if matrix is None:
        stop = start + size
    else:
        reach = np.abs(matrix) @ ((size - 1) / 2)
        start = np.floor(centre - reach).astype(int)
        stop = np.ceil(centre + reach).astype(int) + 1
    return Box(start=tuple(start.tolist()), stop=tuple(stop.tolist())), centre - start


def cut_patches(
    samples: Sequence[RawSample], patch_size_vox: Shape3, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Patches [batch, channel, z, y, x], class indices and outside mask [batch, z, y, x]."""
    channels = samples[0].image.shape[0]
    image = torch.empty((len(samples), channels, *patch_size_vox), device=device)
    label = torch.empty((len(samples), *patch_size_vox), dtype=torch.uint8, device=device)
    masked = samples[0].outside is not None
    outside = torch.empty(label.shape, dtype=torch.bool, device=device) if masked else None
    warped = [i for i, sample in enumerate(samples) if sample.augmentation.matrix is not None]
    for index, sample in enumerate(samples):
        if index not in warped:
            image[index] = torch.from_numpy(sample.image).to(device, non_blocking=True)
            label[index] = torch.from_numpy(sample.label).to(device, non_blocking=True)
            if outside is not None and sample.outside is not None:
                outside[index] = torch.from_numpy(sample.outside).to(device, non_blocking=True)
    if warped:
        warped_samples = [samples[i] for i in warped]
        image[warped], label[warped], warped_outside = _warp(warped_samples, patch_size_vox, device)
        if outside is not None and warped_outside is not None:
            outside[warped] = warped_outside
    _mirror(samples, [image, label] if outside is None else [image, label, outside])
    return image, label, outside


def _mirror(samples: Sequence[RawSample], tensors: Sequence[torch.Tensor]) -> None:
    for index, sample in enumerate(samples):
        if sample.augmentation.mirrored_axes:
            for tensor in tensors:
                lead = tensor.ndim - 4
                axes = [lead + axis for axis in sample.augmentation.mirrored_axes]
                tensor[index] = tensor[index].flip(axes)


def _warp(
    samples: Sequence[RawSample], patch_size_vox: Shape3, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Interpolate transformed patches: images linearly, each class's indicator likewise."""
    box_size = np.max([sample.label.shape for sample in samples], axis=0)
    image = _stack([sample.image for sample in samples], box_size).to(device)
    label = _stack([sample.label[None] for sample in samples], box_size).to(device)
    grid = _sampling_grid(samples, patch_size_vox, box_size, device)
    warped_image = F.grid_sample(image, grid, align_corners=False)
    best = torch.full((len(samples), *patch_size_vox), -1.0, device=device)
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=device)
    present = torch.unique(label)
    for some in present.split(CLASSES_AT_ONCE):
        indicators = (label == some.view(1, -1, 1, 1, 1)).float()
        score, index = F.grid_sample(indicators, grid, align_corners=False).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        winner = torch.where(better, some[index], winner)
    # Beyond the box every indicator is 0, and that is background.
    winner = torch.where(best > 0, winner, torch.zeros_like(winner))
    outside = [sample.outside for sample in samples if sample.outside is not None]
    if not outside:
        return warped_image, winner, None
    inside = _stack([~mask[None] for mask in outside], box_size).to(device).float()
    warped_outside = F.grid_sample(inside, grid, align_corners=False)[:, 0] < 0.5
    return warped_image, winner, warped_outside


def _stack(arrays: Sequence[NDArray[np.generic]], box_size: NDArray[np.int64]) -> torch.Tensor:
    """Boxes [channel, ...] of different sizes as one tensor, zeros at the far ends."""
    stacked = np.zeros((len(arrays), arrays[0].shape[0], *box_size), dtype=arrays[0].dtype)
    for target, array in zip(stacked, arrays, strict=True):
        z, y, x = array.shape[1:]
        target[:, :z, :y, :x] = array
    return torch.from_numpy(stacked)


def _sampling_grid(
    samples: Sequence[RawSample],
    patch_size_vox: Shape3,
    box_size: NDArray[np.int64],
    device: torch.device,
) -> torch.Tensor:
    """Where each output voxel is read, as `grid_sample` wants it: [sample, z, y, x, (x, y, z)]."""
    axes = [torch.arange(n, device=device) - (n - 1) / 2 for n in patch_size_vox]
    offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [z, y, x, 3]
    matrices = np.stack([_matrix(sample) for sample in samples])
    centres = np.stack([sample.centre_vox for sample in samples])
    matrix = torch.from_numpy(matrices).to(device, torch.float32)  # [sample, 3, 3]
    centre = torch.from_numpy(centres).to(device, torch.float32)  # [sample, 3]
    position = torch.einsum("bij,zyxj->bzyxi", matrix, offset) + centre[:, None, None, None]
    size = torch.from_numpy(box_size).to(device, torch.float32)
    return ((2 * position + 1) / size - 1).flip(-1)


def _matrix(sample: RawSample) -> NDArray[np.float64]:
    assert sample.augmentation.matrix is not None
    return sample.augmentation.matrix
