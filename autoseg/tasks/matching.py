"""Which query is to find which mask: the assignment of the least cost, and points to compare at.

Carion et al. 2020 (arXiv:2005.12872) match so; at points, Cheng et al. 2022 (arXiv:2112.01527).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from autoseg.networks.deformable import sampled_at
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.run_plan import MatchingPlan
from autoseg.tasks.mask_targets import MaskTargets, corners_at

SMOOTH = 1.0  # of Dice


def drawn_places(count: int, points: int, dims: int, device: torch.device) -> torch.Tensor:
    """Uniformly random places [count, point, axis]."""
    return torch.rand((count, points, dims), device=device)


def matched(
    layers: Sequence[QueryOutputs], targets: MaskTargets, plan: MatchingPlan
) -> torch.Tensor:
    """Sample, query and mask of each match [layer, 3, match], on the device.

    The host is waited for, once for all layers: it alone finds the assignments.
    """
    with torch.no_grad():
        costs = assignment_costs(layers, targets, plan)
        return assigned(costs).to(costs.device, non_blocking=True)


def assignment_costs(
    layers: Sequence[QueryOutputs], targets: MaskTargets, plan: MatchingPlan
) -> torch.Tensor:
    """What it costs that a query finds a mask [layer, batch, query, mask], infinite where a sample
    has fewer masks than another. All masks of a sample, in all layers, share uniform points."""
    batch, dims = len(targets.labels), targets.masks.ndim - 1
    places = drawn_places(batch, plan.points, dims, targets.masks.device)
    samples = torch.arange(batch, device=places.device)
    corners = corners_at(targets.masks, places, samples)
    truth = corners.of_all(targets.classes.shape[1])  # [batch, mask, point]
    known = corners.known()[:, None]  # [batch, 1, point]
    costs = []
    for found in layers:
        # One row of points for all of a sample's masks.
        seen = sampled_at(found.masks, places[:, None])[:, :, 0]  # [batch, query, point]
        cost = (
            plan.class_weight * _class_cost(found.classes, targets.classes)
            + plan.mask_weight * _cross_entropies(seen, truth, known)
            + plan.dice_weight * _dice_losses(seen.sigmoid() * known, truth)
        )
        largest = torch.finfo(cost.dtype).max
        costs.append(cost.nan_to_num(nan=largest, posinf=largest, neginf=largest))
    absent = (targets.classes < 0)[:, None]  # [batch, 1, mask]
    return torch.stack(costs).masked_fill(absent, torch.inf)


def _class_cost(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Minus the probability of the mask's class [batch, query, mask]."""
    index = classes.clamp_min(0)[:, None].expand(-1, logits.shape[1], -1)
    return -logits.softmax(-1).gather(2, index)


def _cross_entropies(seen: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The mean over known points, of each query beside each mask [batch, query, mask]."""
    seen = seen.float()  # for a difference of sums of many points
    total = functional.softplus(seen) @ known.mT - seen @ truth.mT
    return total / known.sum(2, keepdim=True).clamp_min(1)


def _dice_losses(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Of each query beside each mask [batch, query, mask]."""
    both = probability @ truth.mT
    total = probability.sum(2)[:, :, None] + truth.sum(2)[:, None]
    return 1 - (2 * both + SMOOTH) / (total + SMOOTH)


def assigned(costs: torch.Tensor) -> torch.Tensor:
    """The cheapest one-to-one matches of each layer and sample, by costs [layer, batch, query,
    mask] that may be on a device, which is waited for: sample, query and mask of each
    [layer, 3, match]. All layers have as many."""
    from scipy.optimize import linear_sum_assignment  # takes half a second to import

    on_host = costs.cpu().numpy()
    layers = []
    for of_layer in on_host:
        found = [np.empty((3, 0), np.int64)]
        for sample, cost in enumerate(of_layer):
            masks = np.flatnonzero(np.isfinite(cost[0]))
            queries, own = linear_sum_assignment(cost[:, masks])
            found.append(np.vstack((np.full_like(queries, sample), queries, masks[own])))
        layers.append(np.hstack(found))
    return torch.from_numpy(np.stack(layers))
