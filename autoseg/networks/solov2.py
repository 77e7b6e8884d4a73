"""SOLOv2 (Wang et al. 2020, arXiv:2003.10152), in 2D and 3D.

Each cell of a few grids says which class of object has its centre there, and gives the kernel that
makes the object's mask of features that all share. A network takes [batch, channel, *patch], a
multiple of all strides, and gives logits of classes [batch, class, *patch]; with `all_resolutions`
a list of one `SoloOutputs`, which it learns from.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from autoseg.networks.blocks import Conv, resized
from autoseg.networks.candidate_suppression import mask_overlaps, matrix_decay
from autoseg.networks.candidates import Candidates, filled, packed_candidates
from autoseg.networks.cells import middles_of, squared_distances
from autoseg.networks.chosen_rows import surest, taken
from autoseg.networks.one_stage_body import PyramidBody, features_of_places, tower, with_places
from autoseg.planning.network_plan import SoloPlan

RARE = -4.6  # the bias of what is true of one cell in a hundred
LOOKED_AT = 3  # times as many cells as candidates are kept have masks made


class SoloOutputs(NamedTuple):
    """Logits of classes of each grid's cells [batch, class, *grid], and their kernels [batch,
    feature, *grid]; features that masks are made of [batch, feature, *space]; and logits of classes
    [batch, class, *space]. Grids are in the order of the plan. Kernels may have a last feature
    more: how steeply the mask's logits fall."""

    cells: tuple[torch.Tensor, ...]
    kernels: tuple[torch.Tensor, ...]
    features: torch.Tensor
    semantic: torch.Tensor

    def masks_of(self, cell: torch.Tensor) -> torch.Tensor:
        """Logits of the masks of chosen cells [batch, n], of all grids: [batch, n, voxel]."""
        kernels = torch.cat([kernels.flatten(2) for kernels in self.kernels], dim=2)
        kernels = taken(kernels.transpose(1, 2), cell)
        width = self.features.shape[1]
        masks = torch.bmm(kernels[..., :width], self.features.flatten(2)).float()
        if kernels.shape[2] == width:
            return masks
        middles, counts = middles_of([cells.shape[2:] for cells in self.cells], cell.device)
        away = squared_distances(middles[:, cell], counts[:, cell], self.features.shape[2:])
        return masks - functional.softplus(kernels[..., width:].float()) * away


class SoloV2(nn.Module):
    """A pyramid, grids of cells over it, features of masks, and scores of classes."""

    def __init__(self, plan: SoloPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        self.plan = plan
        kernel = plan.stages[-1].kernel_size
        dims, width = len(kernel), plan.features
        self.body = PyramidBody(plan, in_channels)
        self.cell_tower = tower(width, width, plan.tower, kernel)
        self.waves = plan.waves or (0,) * dims
        placed = width + features_of_places(self.waves)
        self.kernel_tower = tower(placed, width, plan.tower, kernel)
        self.cells = Conv[dims](width, class_count, 1)
        self.kernels = Conv[dims](width, plan.mask_features + plan.near, 1)
        finest = plan.stages[plan.mask_level].kernel_size
        self.mask_tower = tower(placed, plan.mask_features, plan.mask_tower, finest)
        self.semantic = Conv[dims](width, class_count, 1)
        nn.init.constant_(self.cells.get_parameter("bias"), RARE)

    def forward(
        self, image: torch.Tensor, all_resolutions: bool = False
    ) -> torch.Tensor | list[SoloOutputs]:
        if all_resolutions:
            return [self.found(image)]
        return resized(self.semantic(self.body(image)[self.plan.mask_level]), image.shape[2:])

    def found(self, image: torch.Tensor) -> SoloOutputs:
        maps = self.body(image)
        cells, kernels = [], []
        for level, grid in zip(self.plan.head_stages, self.plan.grids, strict=True):
            seen = maps[level]
            cells.append(self.cells(self.cell_tower(resized(seen, grid))).float())
            placed = resized(with_places(seen, self.waves), grid)
            kernels.append(self.kernels(self.kernel_tower(placed)))
        finest = maps[self.plan.mask_level]
        features = self.mask_tower(with_places(finest, self.waves))
        return SoloOutputs(tuple(cells), tuple(kernels), features, self.semantic(finest).float())

    def packed(self, image: torch.Tensor) -> torch.Tensor:
        """The surest candidates, and scores of classes, as `packed_candidates` has them."""
        found = self.found(image)
        candidates = surest_masks(found, self.plan.candidates)
        return packed_candidates(filled(candidates, self.plan.candidates), found.semantic)


def surest_masks(found: SoloOutputs, count: int) -> Candidates:
    """The candidates that are left by matrix NMS, at most so many: of those cells that lead their
    neighbours, by the score of their class times the mean probability within their mask."""
    scores = torch.cat([leading(cells.sigmoid()).flatten(2) for cells in found.cells], dim=2)
    best = scores[:, 1:].max(dim=1)  # of classes but the background
    score, cell = surest(best.values, LOOKED_AT * count)
    classes = taken(best.indices, cell) + 1
    logits = found.masks_of(cell)
    inside = (logits > 0).to(logits)
    score = score * (logits.sigmoid() * inside).sum(2) / inside.sum(2).clamp_min(1)
    score, order = surest(score, score.shape[1])
    overlaps = taken(taken(mask_overlaps(inside), order).transpose(1, 2), order)
    score, kept = surest(score * matrix_decay(overlaps, taken(classes, order)), count)
    order = taken(order, kept)
    masks = taken(logits, order).view(*order.shape, *found.features.shape[2:])
    return Candidates(taken(classes, order), score, masks)


def leading(scores: torch.Tensor) -> torch.Tensor:
    """Scores [batch, class, *grid] of cells that none of those before them along any axis exceeds,
    and 0 elsewhere: the paper's code does so in windows of two cells."""
    pool = functional.max_pool2d if scores.ndim == 4 else functional.max_pool3d
    highest = pool(scores, 2, stride=1, padding=1)
    for axis in range(2, scores.ndim):
        highest = highest.narrow(axis, 0, scores.shape[axis])
    return scores * (highest == scores)
