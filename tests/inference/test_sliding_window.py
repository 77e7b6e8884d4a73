"""Covers: ensemble."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from autoseg.inference import sliding_window
from autoseg.inference.ensemble import Ensemble
from autoseg.inference.merging import DenseSums
from autoseg.inference.sliding_window import (
    Batching,
    constant_patches,
    gaussian_weight,
    predict_logits,
    tile,
)
from autoseg.planning.model_plan import SemanticPlan
from autoseg.planning.plan import InferencePlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.semantic import SemanticTask
from autoseg.tasks.voxel_answer import VoxelAnswer

PLAN = InferencePlan(
    step_fraction=0.5,
    gaussian_sigma_fraction=0.125,
    mirror_axes=(0, 1, 2),
    median_shape_vox=(30, 30, 30),
)
PATCH = (8, 12, 10)
TASK = SemanticTask(
    VoxelAnswer(SemanticPlan(classes=2), ("organ",)),
    LossPlan(kind="ce_dice", batch_dice=False, dice_smooth=1e-5),
)
BATCHING = Batching(inputs_at_once=16, sums_on=torch.device("cpu"))
Span = tuple[int, int]


def position_engine(patches: torch.Tensor) -> torch.Tensor:
    """Logits that depend on where a voxel is in its patch, so that weighting shows."""
    ramp = torch.arange(patches[0, 0].numel()).view(patches.shape[2:]).float() / 100
    return torch.cat([patches * 2, patches + ramp], dim=1)


def whole_by_definition(image: torch.Tensor) -> torch.Tensor:
    """The same average without slabs: all of the scan at once."""
    tiling = tile(image.shape[1:], PATCH, 0.5)
    padded = nn.functional.pad(image, [s for pair in reversed(tiling.padding) for s in pair])
    weight = gaussian_weight(PATCH, 0.125)
    total = torch.zeros(2, *padded.shape[1:])
    weights = torch.zeros(padded.shape[1:])
    for z in tiling.starts[0]:
        for y in tiling.starts[1]:
            for x in tiling.starts[2]:
                box = (slice(z, z + 8), slice(y, y + 12), slice(x, x + 10))
                total[:, *box] += position_engine(padded[None, :, *box])[0] * weight
                weights[box] += weight
    inside = [slice(a, n - b) for (a, b), n in zip(tiling.padding, padded.shape[1:], strict=True)]
    return (total / weights)[:, *inside]


@pytest.mark.parametrize("shape", [(8, 12, 10), (30, 25, 24), (5, 30, 7), (9, 13, 11), (3, 4, 5)])
def test_slabs_together_are_the_whole_average(shape: tuple[int, int, int]) -> None:
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    everywhere = ((0, shape[1]), (0, shape[2]))
    slabs = list(predict_logits(image, position_engine, PATCH, PLAN, everywhere, BATCHING))
    assert torch.cat(slabs, dim=1).shape == (2, *shape)
    torch.testing.assert_close(torch.cat(slabs, dim=1), whole_by_definition(image))
    if shape[0] > 20:
        assert len(slabs) > 1


@pytest.mark.parametrize("column", [((0, 11), (3, 24)), ((10, 25), (0, 1)), ((12, 13), (7, 9))])
def test_a_column_is_cut_out_of_the_whole_average(column: tuple[Span, Span]) -> None:
    image = torch.randn(1, 21, 25, 24, generator=torch.Generator().manual_seed(0))
    slabs = predict_logits(image, position_engine, PATCH, PLAN, column, BATCHING)
    y, x = (slice(*span) for span in column)
    torch.testing.assert_close(
        torch.cat(list(slabs), dim=1), whole_by_definition(image)[:, :, y, x]
    )


def test_patches_of_air_are_run_once() -> None:
    image = torch.full((1, 8, 12, 60), -3.0)
    image[..., :10] = torch.randn(8, 12, 10)
    seen: list[torch.Tensor] = []

    def engine(patches: torch.Tensor) -> torch.Tensor:
        seen.extend(patches)
        return position_engine(patches)

    slabs = list(predict_logits(image, engine, PATCH, PLAN, ((0, 12), (0, 60)), BATCHING))
    torch.testing.assert_close(torch.cat(slabs, dim=1), whole_by_definition(image))
    assert len(tile((60,), (10,), 0.5).starts[0]) == 11
    assert len(seen) == 3  # two with something in them, and one of air


@given(size=st.integers(1, 300), patch=st.integers(1, 100))
def test_patches_cover_every_voxel_with_steps_of_at_most_half(size: int, patch: int) -> None:
    tiling = tile([size], [patch], 0.5)
    (starts,), ((before, after),) = tiling.starts, tiling.padding
    assert starts[0] == 0
    assert starts[-1] + patch == max(size, patch) == size + before + after
    assert all(b - a <= np.ceil(patch / 2) for a, b in itertools.pairwise(starts))


def test_the_weight_is_scipys_gaussian() -> None:
    impulse = np.zeros(PATCH)
    impulse[4, 6, 5] = 1
    expected = ndimage.gaussian_filter(impulse, [s / 8 for s in PATCH], mode="constant")
    found = gaussian_weight(PATCH, 0.125).numpy()
    near = expected > expected.max() * 1e-3
    np.testing.assert_allclose(found[near] / 10, (expected / expected.max())[near], rtol=1e-3)
    assert (found > 0).all()


def test_small_weights_are_those_of_nnunet() -> None:
    patch = (16, 24, 20)  # its corners round to 0 in half precision
    impulse = np.zeros(patch)
    impulse[8, 12, 10] = 1
    gaussian = ndimage.gaussian_filter(impulse, [s / 8 for s in patch], mode="constant")
    expected = (10 * gaussian / gaussian.max()).astype(np.float16)
    expected[expected == 0] = expected[expected > 0].min()
    found = gaussian_weight(patch, 0.125).numpy()
    assert found.min() == np.float32(2.0**-24)  # a subnormal number
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2.0**-24)


class Asymmetric(nn.Module):
    """Its output moves with the side that its input is read from."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image.cumsum(2), image.cumsum(3) - image.cumsum(4)], dim=1)


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_mirror_images_and_folds_are_averaged(at_once: int) -> None:
    networks = [Asymmetric(), Asymmetric(), nn.Conv3d(1, 2, 1)]
    engine = Ensemble(networks, 3, (0, 2), TASK, inputs_at_once=at_once)
    patches = torch.randn(2, 1, 4, 5, 6)
    expected = torch.zeros(2, 2, 4, 5, 6)
    with torch.no_grad():
        for axes in ([], [2], [4], [2, 4]):
            for network in networks:
                expected += network(patches.flip(axes)).flip(axes) / 12
    torch.testing.assert_close(engine(patches), expected)


def test_patches_of_air_are_found_with_the_values_of_their_channels() -> None:
    image = torch.randn(2, 8, 24, 10, generator=torch.Generator().manual_seed(0))
    image[0, :, :12], image[1, :, :12] = -1, 3
    starts = [(0, 0, 0), (0, 6, 0), (0, 12, 0)]
    assert constant_patches(image, starts, PATCH) == [(-1.0, 3.0), None, None]


def test_between_its_first_and_last_question_no_device_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On torch's meta device nothing can be read, and no tensor of the host be mixed in."""
    asked: list[str] = []

    def none_constant(image: torch.Tensor, starts: list[object], size: object) -> list[None]:
        asked.append("which patches are constant")
        return [None] * len(starts)

    monkeypatch.setattr(sliding_window, "constant_patches", none_constant)
    monkeypatch.setattr(DenseSums, "check", lambda sums: asked.append("whether all is finite"))
    meta = torch.device("meta")
    image = torch.empty(1, 21, 25, 24, device=meta)
    batching = replace(BATCHING, sums_on=meta)
    rows = predict_logits(image, position_engine_on_meta, PATCH, PLAN, ((0, 25), (3, 20)), batching)
    assert sum(row.shape[1] for row in rows) == 21
    assert asked == ["which patches are constant", "whether all is finite"]


def position_engine_on_meta(patches: torch.Tensor) -> torch.Tensor:
    return torch.cat([patches * 2, patches + 1], dim=1)
