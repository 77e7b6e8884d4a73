"""Covers: voxel_answer."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from autoseg.dataset.labels import IGNORED, LabelScheme, Region
from autoseg.planning.model_plan import SemanticPlan
from autoseg.tasks.voxel_answer import VoxelAnswer, classes_or_regions

REGIONS = ((1, 2, 3), (2, 3), (3,))
CLASSES = LabelScheme(values=(0, 1, 2, 5), names=("background", "shell", "middle", "core"))
NESTED = CLASSES.model_copy(
    update={
        "regions": (
            Region(name="whole", values=(1, 2, 5)),
            Region(name="inner", values=(2, 5)),
            Region(name="core", values=(5,)),
        ),
        "region_order": (1, 2, 5),
    }
)
SPACE = (3, 4, 5)


def answer_with(regions: bool) -> VoxelAnswer:
    labels = NESTED if regions else CLASSES
    return classes_or_regions(SemanticPlan(classes=4, regions=labels.region_classes()), labels)


def scores_of_scan(outputs: int) -> torch.Tensor:
    return torch.randn(outputs, *SPACE, generator=torch.Generator().manual_seed(0)).double() * 3


def random_targets() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 4, (2, *SPACE), generator=generator, dtype=torch.uint8)
    targets[:, 0] = IGNORED
    return targets


@pytest.mark.parametrize(("regions", "outputs"), [(False, 4), (True, 3)])
def test_a_plan_has_an_output_for_each_class_or_region(regions: bool, outputs: int) -> None:
    answer = answer_with(regions)
    assert answer.outputs == outputs
    assert answer.names == (("whole", "inner", "core") if regions else ("shell", "middle", "core"))


def test_classes_are_decoded_to_the_highest_score() -> None:
    scores = scores_of_scan(4)
    found = answer_with(regions=False).decode(scores)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, scores.numpy().argmax(0))


def test_regions_are_painted_one_over_the_other() -> None:
    scores = scores_of_scan(3)
    found = answer_with(regions=True).decode(scores)
    expected = np.zeros(SPACE, np.uint8)
    for voxel in np.ndindex(SPACE):
        above = [i + 1 for i in range(3) if scores[(i, *voxel)] > 0]
        expected[voxel] = above[-1] if above else 0
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(expected)) == {0, 1, 2, 3}


def test_probabilities_and_entropy_of_classes() -> None:
    answer, scores = answer_with(regions=False), scores_of_scan(4)
    probabilities = answer.probabilities(scores)
    np.testing.assert_allclose(probabilities, special.softmax(scores.numpy(), axis=0), atol=1e-12)
    expected = stats.entropy(probabilities.numpy(), axis=0)
    np.testing.assert_allclose(answer.entropy(probabilities), expected, atol=1e-12)
    certain = torch.zeros(4, 1).double()
    certain[2] = 1
    assert answer.entropy(certain).tolist() == [0]


def test_probabilities_and_entropy_of_regions() -> None:
    answer, scores = answer_with(regions=True), scores_of_scan(3)
    probabilities = answer.probabilities(scores)
    p = 1 / (1 + np.exp(-scores.numpy()))
    np.testing.assert_allclose(probabilities, p, atol=1e-12)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(0)
    np.testing.assert_allclose(answer.entropy(probabilities), expected, atol=1e-12)
    assert answer.entropy(torch.tensor([[1.0], [0.0], [1.0]])).tolist() == [0]


@pytest.mark.parametrize("regions", [False, True])
def test_scores_of_probabilities_decode_and_count_alike(regions: bool) -> None:
    answer = answer_with(regions)
    scores = scores_of_scan(answer.outputs)
    back = answer.scores_of(answer.probabilities(scores))
    torch.testing.assert_close(answer.probabilities(back), answer.probabilities(scores))
    assert torch.equal(answer.decode(back), answer.decode(scores))


@pytest.mark.parametrize("regions", [False, True])
def test_truth_and_decision_are_maps_of_the_names(regions: bool) -> None:
    answer, targets = answer_with(regions), random_targets()
    groups = REGIONS if regions else ((1,), (2,), (3,))
    truth = np.stack([np.isin(targets.numpy(), group) for group in groups], axis=1)
    np.testing.assert_array_equal(answer.truth(targets), truth)
    np.testing.assert_array_equal(answer.annotated(targets), targets.numpy() != IGNORED)
    outputs = scores_of_scan(answer.outputs)[None]
    decided = answer.decision(outputs)
    expected = outputs.numpy() > 0
    if not regions:
        expected = outputs.numpy().argmax(1)[:, None] == np.arange(1, 4).reshape(1, 3, 1, 1, 1)
    np.testing.assert_array_equal(decided, expected)


@pytest.mark.parametrize("regions", [False, True])
def test_models_disagree_where_their_votes_differ(regions: bool) -> None:
    answer = answer_with(regions)
    scores = scores_of_scan(answer.outputs)[None]
    votes = answer.votes(scores)
    expected = scores.numpy() > 0 if regions else scores.numpy().argmax(1)[:, None]
    np.testing.assert_array_equal(votes, expected)
