"""Scores and objects of what queries find, in patches that are slid over a scan.

Covers: ensemble, tasks.query_layout.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.geometry import Shape3
from autoseg.inference.engines import Runner
from autoseg.inference.ensemble import Ensemble, with_disagreement
from autoseg.inference.joining import SeenObjects
from autoseg.inference.queries import QueryMerging, found_in_patch
from autoseg.inference.sliding_window import Batching, gaussian_weight, predict_logits, tile
from autoseg.networks.candidates import Candidates, filled, packed_candidates
from autoseg.networks.mask_queries import QueryOutputs, class_scores
from autoseg.planning.model_plan import CandidatesPlan, MaskQueriesPlan, SemanticPlan
from autoseg.planning.plan import InferencePlan
from autoseg.tasks.candidates import CandidatesTask, candidates_task
from autoseg.tasks.mask_queries import MaskQueriesTask, mask_queries_task
from autoseg.tasks.query_layout import QueryLayout
from autoseg.tasks.voxel_answer import classes_or_regions
from tests.inference.test_joining import balls
from tests.tasks.test_losses import loss_plan
from tests.tasks.test_mask_queries import LABELS, LOSS

QUERIES = 20


def plan(stride: tuple[int, ...]) -> MaskQueriesPlan:
    return MaskQueriesPlan(classes=3, things=(1,), queries=QUERIES, mask_stride=stride)


def near_sighted(patches: torch.Tensor) -> torch.Tensor:
    """What a network would find at best that sees numbered cells, each in a mask of its own, and
    nothing beyond its patch: all cells of a patch, then the background. Packed."""
    numbers = patches[:, 0].round().long()
    packed = []
    for patch in numbers:
        own = patch.unique()
        masks = torch.full((QUERIES, *patch.shape), -12.0)
        classes = torch.zeros(QUERIES, 4)
        classes[:, 3] = 12.0  # nothing
        for query, number in enumerate(own.tolist()):
            masks[query] = 24.0 * (patch == number) - 12.0
            classes[query] = 12.0 * torch.eye(4)[1 if number else 0]
        packed.append(torch.cat((classes, masks.flatten(1)), dim=1))
    return torch.stack(packed)


def near_sighted_candidates(patches: torch.Tensor) -> torch.Tensor:
    """The same as candidates, the largest first, beside logits of classes."""
    numbers = patches[:, 0].round().long()
    packed = []
    for patch in numbers:
        own, sizes = patch[patch > 0].unique(return_counts=True)
        own = own[sizes.argsort(descending=True)]
        masks = 24.0 * (patch == own.view(-1, 1, 1, 1)) - 12.0
        found = Candidates(torch.ones_like(own)[None], torch.full((1, len(own)), 0.99), masks[None])
        inside = 24.0 * (patch > 0) - 12.0
        semantic = torch.stack((-inside, inside, torch.full_like(inside, -12.0)))
        packed.append(packed_candidates(filled(found, QUERIES), semantic[None])[0])
    return torch.stack(packed)


def queries_of(dims: int) -> MaskQueriesTask:
    return mask_queries_task(plan((1,) * dims), LOSS, LABELS)


def candidates_of(dims: int) -> CandidatesTask:
    ones = (1,) * dims
    plan = CandidatesPlan(
        kind="yolact", classes=3, things=(1,), queries=QUERIES, mask_stride=ones, spacing_mm=ones
    )
    return candidates_task(plan, loss_plan("ce_dice"), LABELS)


@pytest.mark.parametrize(
    ("task_of", "network"), [(queries_of, near_sighted), (candidates_of, near_sighted_candidates)]
)
@pytest.mark.parametrize(
    ("shape", "patch"), [((1, 37, 37), (1, 16, 16)), ((12, 18, 11), (8, 10, 10))]
)
def test_objects_on_seams_are_found_once_and_classes_too(
    shape: Shape3, patch: Shape3, task_of: Callable[[int], Any], network: Runner
) -> None:
    edges = [range(4, n - 3, 7) if n > 1 else [0] for n in shape]
    centres = [(float(z), float(y), float(x)) for z, y, x in product(*edges)]
    truth = balls(shape, centres, 3.2)
    dims = 2 if shape[0] == 1 else 3
    task = task_of(dims)
    layout = QueryLayout(task.plan, patch)
    ensemble = Ensemble((network,), 3, (1, 2), task, queries=layout)
    inference = InferencePlan(
        step_fraction=0.5, gaussian_sigma_fraction=0.125, mirror_axes=(1, 2), median_shape_vox=shape
    )
    seen = SeenObjects(gaussian_weight(patch, 0.125).numpy(), 0.8)
    batching = Batching(4, torch.device("cpu"), QueryMerging(layout, task.answer, False, seen))
    image = torch.from_numpy(truth)[None].float()
    slabs = predict_logits(
        image, ensemble, patch, inference, ((0, shape[1]), (0, shape[2])), batching
    )
    scores = torch.cat([slab.clone() for slab in slabs], dim=1)
    np.testing.assert_array_equal(task.answer.decode(scores), truth > 0)
    assert tile(shape, patch, 0.5).padding == ((0, 0),) * 3
    z, y, x = shape
    found = seen.joined(shape, (slice(0, z), slice(0, y), slice(0, x)))
    assert len(found.kinds) == len(centres) == found.numbers.max()
    for number in range(1, len(centres) + 1):
        own = found.numbers == number
        assert len(np.unique(truth[own])) == 1 and own.sum() == (truth == truth[own][0]).sum()


def test_packed_answers_are_those_of_queries_and_mirrored_as_patches_are() -> None:
    layout = QueryLayout(plan((2, 4)), (1, 8, 16))
    found = QueryOutputs(torch.randn(2, QUERIES, 4), torch.randn(2, QUERIES, 1, 4, 4))
    packed = torch.cat((found.classes, found.masks.flatten(2)), dim=2)
    assert torch.equal(layout.unpacked(packed).masks, found.masks)
    assert torch.equal(layout.unpacked(packed).classes, found.classes)
    mirrored = layout.unpacked(layout.flipped(packed, (3,)))
    assert torch.equal(mirrored.masks, found.masks.flip(3))
    assert torch.equal(mirrored.classes, found.classes)


def test_networks_that_disagree_are_counted() -> None:
    own = plan((1, 1))
    layout, task = QueryLayout(own, (1, 8, 8)), mask_queries_task(own, LOSS, LABELS)
    one = near_sighted(torch.zeros(1, 1, 1, 8, 8))
    other = near_sighted(torch.ones(1, 1, 1, 8, 8))
    looks = torch.stack((one, one, other), dim=1)[:, :, None]  # [n, network, mirror, query, number]
    weight = torch.ones(1, 8, 8)
    sums = QueryMerging(layout, task.answer, True, None)(1, ((0, 8), (0, 8)), weight)
    sums.add(looks[0], (0, 0))
    found = torch.cat(list(sums.means(0, 1)), dim=1)
    assert found.shape == (4, 1, 8, 8)
    torch.testing.assert_close(found[3], torch.full((1, 8, 8), 1 / 3))
    each = [class_scores(layout.unpacked(look[0])) for look in (one[None], other[None])]
    torch.testing.assert_close(found[:3], ((2 * each[0] + each[1]) / 3)[0])


def test_queries_that_are_unsure_or_of_no_thing_find_no_object() -> None:
    layout = QueryLayout(plan((2, 2)), (1, 8, 8))
    masks = torch.full((1, 3, 1, 4, 4), 9.0)
    classes = torch.tensor([[[0.0, 0.1, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0]]])
    (objects,) = found_in_patch(QueryOutputs(classes, masks), layout)
    assert [one.kind for one in objects] == [1]
    assert objects[0].probability.shape == (1, 8, 8)  # of the patch's resolution
    nowhere = QueryOutputs(classes, -masks)
    assert found_in_patch(nowhere, layout) == [[]]


@pytest.mark.parametrize(("least", "kept"), [(0.3, [0.4]), (0.5, [])])
def test_an_object_may_be_less_likely_than_none(least: float, kept: list[float]) -> None:
    layout = QueryLayout(plan((2, 2)).model_copy(update={"object_score": least}), (1, 8, 8))
    classes = torch.tensor([[[1e-6, 0.4, 1e-6, 0.6]]]).log()
    (objects,) = found_in_patch(QueryOutputs(classes, torch.full((1, 1, 1, 4, 4), 9.0)), layout)
    assert [one.score for one in objects] == pytest.approx(kept, abs=1e-4)


def test_what_networks_say_besides_scores_is_no_disagreement() -> None:
    answer = classes_or_regions(SemanticPlan(classes=2), LABELS)
    one, other = torch.zeros(2, 1, 3, 1, 1, 4)
    one[:, 1, ..., :2] = other[:, 1, ..., 1:3] = 1.0
    other[:, 2] = 9.0  # a depth, say, higher than any score
    found = with_disagreement((one, other), answer)
    assert found[0, 3].flatten().tolist() == [0.5, 0, 0.5, 0]
