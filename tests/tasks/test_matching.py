from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.model_plan import MaskQueriesPlan
from autoseg.planning.run_plan import MatchingPlan
from autoseg.tasks import matching
from autoseg.tasks.mask_targets import find_masks
from autoseg.tasks.matching import assigned, assignment_costs, matched

PLAN = MatchingPlan(points=300)


def test_assignments_are_scipys_for_the_masks_that_there_are() -> None:
    costs = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 6, 5)))
    costs[:, 0, :, [1, 4]] = torch.inf  # the first sample has three masks
    pairs = assigned(costs)
    assert pairs.shape == (3, 3, 3 + 5)
    for layer in range(3):
        queries, masks = linear_sum_assignment(costs[layer, 0][:, [0, 2, 3]].numpy())
        of_first = pairs[layer][:, pairs[layer, 0] == 0]
        assert of_first[1].tolist() == queries.tolist()
        assert of_first[2].tolist() == np.array([0, 2, 3])[masks].tolist()


def test_no_other_assignment_is_cheaper() -> None:
    cost = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, 4, 3)))
    _, queries, masks = assigned(cost)[0]
    found = float(cost[0, 0, queries, masks].sum())
    each = [
        float(sum(cost[0, 0, q, m] for m, q in enumerate(p))) for p in permutations(range(4), 3)
    ]
    assert found == pytest.approx(min(each))


def test_samples_without_masks_match_nothing() -> None:
    pairs = assigned(torch.full((2, 1, 4, 3), torch.inf))
    assert pairs.shape == (2, 3, 0)


def example() -> tuple[list[QueryOutputs], torch.Tensor, torch.Tensor]:
    """Queries that know the answer, in an order of their own: nothing, object 2, object 1,
    background."""
    labels, objects = torch.zeros((2, 1, 16, 16), dtype=torch.int32)
    labels[0, 2:8, 2:8], objects[0, 2:8, 2:8] = 1, 1
    labels[0, 10:14, 9:15], objects[0, 10:14, 9:15] = 1, 2
    masks = torch.stack((objects < 0, objects == 2, objects == 1, objects == 0), dim=1)
    classes = torch.tensor([2, 1, 1, 0])
    logits = 8.0 * torch.nn.functional.one_hot(classes, 3)[None]
    return [QueryOutputs(logits, 16.0 * masks - 8.0)], labels.to(torch.uint8), objects


def test_queries_that_know_their_masks_are_matched_with_them() -> None:
    layers, labels, objects = example()
    plan = MaskQueriesPlan(classes=2, things=(1,), queries=4, mask_stride=(1, 1))
    targets = find_masks(labels, objects, plan)
    pairs = matched(layers, targets, PLAN)[0]
    of_mask = dict(zip(pairs[2].tolist(), pairs[1].tolist(), strict=True))
    assert [of_mask[n] for n in range(3)] == [3, 2, 1]  # masks come by size


def test_numbers_that_are_not_finite_are_matched_last(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, labels, objects = example()
    layers[0].masks[0, 1] = torch.nan
    plan = MaskQueriesPlan(classes=2, things=(1,), queries=4, mask_stride=(1, 1))
    costs = assignment_costs(layers, find_masks(labels, objects, plan), PLAN)
    assert not costs.isnan().any()
    assert 1 not in matching.assigned(costs)[0, 1].tolist()
