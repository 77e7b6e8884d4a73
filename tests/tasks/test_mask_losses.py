"""The loss of mask queries beside that of transformers, as tests/networks/test_mask_queries.py."""

import json

import numpy as np
import pytest
import torch

from autoseg.dataset.labels import IGNORED
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.model_plan import MaskQueriesPlan
from autoseg.planning.run_plan import MatchingPlan
from autoseg.tasks import mask_losses, matching
from autoseg.tasks.mask_losses import layer_losses, query_loss, telling_places
from autoseg.tasks.mask_targets import MaskTargets, find_masks
from autoseg.tasks.task import alone
from tests.networks.published_queries import drawn_numbers, drawn_places
from tests.networks.test_mask_queries import FILE
from tests.tasks.test_matching import example


def published_example() -> tuple[list[QueryOutputs], MaskTargets, MatchingPlan]:
    file = np.load(FILE)
    size = json.loads(str(file["told"]))["size"]
    layers = [
        QueryOutputs(torch.from_numpy(classes), torch.from_numpy(masks))
        for classes, masks in zip(file["classes"], file["masks"], strict=True)
    ]
    numbers, classes = drawn_numbers(size["edge"])
    return layers[::-1], MaskTargets(numbers, numbers, classes), MatchingPlan(points=size["points"])


@pytest.fixture
def same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (matching, mask_losses):
        monkeypatch.setattr(module, "drawn_places", drawn_places)


@pytest.mark.usefixtures("same_places")
def test_losses_of_all_layers_are_the_published_ones() -> None:
    layers, targets, plan = published_example()
    expected = json.loads(str(np.load(FILE)["told"]))["losses"]
    found = layer_losses(layers, targets, plan, alone)
    for index, losses in enumerate([found[0], *found[:0:-1]]):  # theirs begin with the last layer
        suffix = f"_{index - 1}" if index else ""
        assert float(losses.classes) == pytest.approx(expected[f"loss_cross_entropy{suffix}"], 1e-4)
        assert float(losses.masks) == pytest.approx(expected[f"loss_mask{suffix}"], 1e-4)
        assert float(losses.dice) == pytest.approx(expected[f"loss_dice{suffix}"], 1e-4)


@pytest.mark.usefixtures("same_places")
def test_matches_are_the_published_ones() -> None:
    layers, targets, plan = published_example()
    samples, queries, masks = matching.matched(layers, targets, plan)[0]
    file = np.load(FILE)
    for sample in (0, 1):
        own = samples == sample
        found = torch.stack((queries[own], masks[own]))
        np.testing.assert_array_equal(found, file[f"pairs.{sample}"])


def test_places_are_mostly_where_the_network_is_unsure() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-8, 8, 64).expand(1, 1, 64, 64)  # unsure in the middle, along x
    places = telling_places(ramp, MatchingPlan(points=400))
    assert places.shape == (1, 400, 2)
    near = (places[0, :300, 0] - 0.5).abs()
    assert float(near.max()) < 0.2  # the nearest 300 of 1200, up to 0.125 to each side
    assert float((places[0, 300:, 0] - 0.5).abs().mean()) == pytest.approx(0.25, abs=0.04)


def annotated_and_not() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros((1, 16, 16), dtype=torch.uint8)
    labels[0, 2:8, 2:8] = 1
    labels[0, :, 8:] = IGNORED
    return labels, (labels == 1).int()


PLAN = MaskQueriesPlan(classes=2, things=(1,), queries=3, mask_stride=(1, 1))


def test_what_nobody_annotated_teaches_no_mask() -> None:
    torch.manual_seed(0)
    targets = find_masks(*annotated_and_not(), PLAN)
    masks = torch.randn((1, 3, 16, 16), requires_grad=True)
    found = QueryOutputs(torch.zeros((1, 3, 3)), masks)
    query_loss([found], targets, MatchingPlan(points=300), alone).backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert not masks.grad[..., 9:].any() and masks.grad[..., :7].any()


def test_patches_without_masks_teach_that_there_are_none() -> None:
    labels = torch.full((1, 8, 8), IGNORED, dtype=torch.uint8)
    targets = find_masks(labels, labels.int(), PLAN)
    classes = torch.zeros((1, 3, 3), requires_grad=True)
    found = QueryOutputs(classes, torch.randn((1, 3, 8, 8), requires_grad=True))
    query_loss([found] * 2, targets, MatchingPlan(points=20), alone).backward()  # type: ignore[no-untyped-call]
    assert classes.grad is not None and bool((classes.grad[0, :, 2] < 0).all())


def test_shares_of_a_batch_add_up_to_its_loss() -> None:
    """What is summed over processes: masks, cross-entropies of classes, and their weights."""
    layers, labels, objects = example()
    torch.manual_seed(0)
    noise = torch.randn((2, 4, 3))
    both = QueryOutputs(layers[0].classes + noise, layers[0].masks.expand(2, -1, -1, -1))
    targets = find_masks(labels.expand(2, -1, -1), objects.expand(2, -1, -1), PLAN)
    whole = layer_losses([both], targets, MatchingPlan(points=300), alone)[0]
    halves = [noted_sums(both, targets, sample) for sample in (0, 1)]
    entropy, weight, _, _, count = halves[0] + halves[1]
    assert count == 6
    assert float(whole.classes) == pytest.approx(float(entropy / weight), rel=1e-4)


def noted_sums(found: QueryOutputs, targets: MaskTargets, sample: int) -> torch.Tensor:
    own = slice(sample, sample + 1)
    part = MaskTargets(targets.labels[own], targets.masks[own], targets.classes[own])
    sums: list[torch.Tensor] = []

    def noted(values: torch.Tensor) -> torch.Tensor:
        sums.append(values[0].detach())  # of the only layer
        return values

    half = QueryOutputs(found.classes[own], found.masks[own])
    layer_losses([half], part, MatchingPlan(points=300), noted)
    (together,) = sums  # they are exchanged at once
    return together
