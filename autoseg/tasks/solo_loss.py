"""What SOLOv2's cells lose (Wang et al. 2020, arXiv:2003.10152): on classes, and on the masks of
cells in which an object has its centre."""

from collections.abc import Sequence
from math import prod

import torch

from autoseg.networks.box_geometry import sides
from autoseg.networks.solov2 import SoloOutputs
from autoseg.planning.model_plan import CandidatesPlan
from autoseg.tasks.chosen import at_random, focal_losses
from autoseg.tasks.placed_objects import PlacedObjects
from autoseg.tasks.task import SumUp

MIDDLE = 0.2  # of an object's extent, in which cells are its own
DICE_WEIGHT = 3.0  # beside the focal loss, as published
NO_OBJECT = -1


def solo_loss(
    found: SoloOutputs, objects: PlacedObjects, plan: CandidatesPlan, across: SumUp
) -> torch.Tensor:
    """The focal loss of classes over all cells that have an object, or whose middle is known, and
    Dice of masks, each for an object's cell."""
    grids = [cells.shape[2:] for cells in found.cells]
    patch = objects.labels.shape[1:]
    own = torch.cat(
        [
            cells_of_objects(objects, sizes_mm, grid, patch, plan.spacing_mm).flatten(1)
            for sizes_mm, grid in zip(plan.sizes_mm, grids, strict=True)
        ],
        dim=1,
    )  # [batch, cell]
    logits = torch.cat([cells.flatten(2) for cells in found.cells], dim=2)  # [batch, class, cell]
    has_object = own != NO_OBJECT
    classes = torch.where(has_object, objects.classes.gather(1, own.clamp_min(0)), 0)
    every = torch.arange(logits.shape[1], device=logits.device)[:, None]
    truth = (every == classes[:, None]) & has_object[:, None]  # [batch, class, cell]
    middles = torch.cat([middles_of_cells(grid, patch, own.device) for grid in grids])
    counted = has_object | objects.known_at(middles)
    focal = (focal_losses(logits, truth.float()) * counted[:, None]).sum()
    cell, counts = at_random(has_object)
    masks = found.masks_of(cell).sigmoid() * objects.known(plan.mask_stride)
    wanted = objects.shares(own.gather(1, cell), plan.mask_stride)
    dice = dice_losses(masks, wanted) * counts
    sums = torch.stack((focal, has_object.sum().float(), dice.sum(), counts.sum()))
    of_cells, cells, of_masks, masks_drawn = across(sums)
    of_masks = DICE_WEIGHT * of_masks / masks_drawn.clamp_min(1)
    total: torch.Tensor = of_cells / (cells + 1) + of_masks
    return total


def middles_of_cells(
    grid: Sequence[int], patch: Sequence[int], device: torch.device
) -> torch.Tensor:
    """Where the middles of a grid's cells are [cell, axis], in voxels from the patch's corner."""
    along = [
        (torch.arange(cells, device=device) + 0.5) * voxels / cells
        for cells, voxels in zip(grid, patch, strict=True)
    ]
    return torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1).flatten(0, -2)


def dice_losses(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Of masks [batch, n, voxel] whose probabilities are squared (V-Net, Milletari et al. 2016)."""
    both = (probability * truth).sum(2)
    total = probability.square().sum(2) + truth.square().sum(2)
    return 1 - 2 * both / (total + 1e-3)


def cells_of_objects(
    objects: PlacedObjects,
    sizes_mm: tuple[float, float],
    grid: Sequence[int],
    patch: Sequence[int],
    spacing_mm: Sequence[float],
) -> torch.Tensor:
    """The object of each cell of a grid over a patch [batch, *grid], or NO_OBJECT: that whose
    centre lies in it, and of its neighbours those that reach into the middle of its extent. Of
    several objects the smallest, of those alone whose sizes the grid is for: the geometric means of
    their boxes' sides, as planned."""
    extents = sides(objects.boxes)  # [batch, object, axis]
    size_mm = prod(spacing_mm) ** (1 / len(grid)) * extents.prod(-1) ** (1 / len(grid))
    low, high = sizes_mm
    fits = (objects.classes > 0) & (size_mm >= low) & (size_mm <= high) & (objects.voxels > 0)
    covers = fits.view(*fits.shape, *[1] * len(grid))
    for axis, (cells, voxels) in enumerate(zip(grid, patch, strict=True)):
        cell = torch.arange(cells, device=fits.device)
        per_vox = cells / voxels
        centre = objects.centres[..., axis, None] * per_vox  # [batch, object, 1], in cells
        reach = MIDDLE / 2 * extents[..., axis, None] * per_vox
        at = centre.floor()
        along = (cell >= (centre - reach).floor().maximum(at - 1)) & (
            cell <= (centre + reach).floor().minimum(at + 1)
        )  # [batch, object, cell]
        shape = [1] * len(grid)
        shape[axis] = cells
        covers = covers & along.view(*along.shape[:2], *shape)
    order = torch.where(fits, objects.voxels, objects.voxels.amax() + 1)
    ranked = torch.where(covers, order.view(*order.shape, *[1] * len(grid)), 2**40)
    least = ranked.min(dim=1)
    return torch.where(least.values < 2**40, least.indices, NO_OBJECT)
