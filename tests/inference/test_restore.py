import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize

from autoseg.geometry import Box, Placement, Shape3
from autoseg.inference.restore import Column, Span, crop_of, restored_blocks
from autoseg.planning.grid_plan import ResamplingPlan

PLAN = ResamplingPlan(image_order=3, label_order=1, logits_order=1, separate_axis_ratio=3)


def place(
    crop: Shape3,
    resampled: Shape3,
    source_mm: tuple[float, float, float] = (1, 1, 1),
    flipped: tuple[int, ...] = (),
    order: Shape3 = (0, 1, 2),
) -> Placement:
    margin = (2, 1, 3)  # in plan axes
    in_plan = [c + 2 * m for c, m in zip(crop, margin, strict=True)]
    source = [0, 0, 0]
    for plan_axis, source_axis in enumerate(order):
        source[source_axis] = in_plan[plan_axis]
    stop = tuple(c + m for c, m in zip(crop, margin, strict=True))
    return Placement(
        source_shape_vox=(source[0], source[1], source[2]),
        flipped_axes=flipped,
        axis_order=order,
        crop=Box(start=margin, stop=stop),
        resampled_shape_vox=resampled,
        source_spacing_mm=source_mm,
        target_spacing_mm=(1, 1, 1),
    )


def some_logits(shape: Shape3, classes: int = 4) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(classes, *shape))
    smooth: np.ndarray = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)).astype(np.float32)
    return smooth


def slabs_of(logits: np.ndarray, sizes: list[int]) -> list[torch.Tensor]:
    assert sum(sizes) == logits.shape[1]
    return list(torch.split(torch.from_numpy(logits), sizes, dim=1))


def restored(
    logits: np.ndarray,
    sizes: list[int],
    placement: Placement,
    cuts: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
    rows: int = 7,
) -> np.ndarray:
    """Class indices on the source, from logits that come in slabs, column after column."""
    edges = [(0, *cut, size) for cut, size in zip(cuts, placement.crop.shape[1:], strict=True)]
    columns = [
        Column(y, x)
        for y, x in itertools.product(itertools.pairwise(edges[0]), itertools.pairwise(edges[1]))
    ]

    def predict(y: Span, x: Span) -> list[torch.Tensor]:
        return slabs_of(logits[:, :, slice(*y), slice(*x)], sizes)

    whole = np.zeros(placement.source_shape_vox, np.uint8)
    for block in restored_blocks(predict, placement, PLAN, columns, rows):
        crop_of(whole, placement)[block.place] = block.values.argmax(0).numpy()
    return whole


@pytest.mark.parametrize("sizes", [[17], [1] * 17, [5, 1, 8, 3]])
@pytest.mark.parametrize(
    "crop", [(17, 20, 15), (31, 33, 12), (9, 20, 28), (40, 20, 15), (5, 20, 15), (3, 20, 15)]
)
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_slabs_give_the_labels_of_resampling_everything(
    sizes: list[int], crop: Shape3, rows: int
) -> None:
    logits = some_logits((17, 20, 15))
    placement = place(crop, (17, 20, 15))
    source = restored(logits, sizes, placement, rows=rows)
    found = placement.to_plan_axes(source)
    whole = np.stack(
        [resize(c.astype(float), crop, 1, mode="edge", anti_aliasing=False) for c in logits]
    )
    top_two = np.sort(whole, axis=0)[-2:]
    clear = top_two[1] - top_two[0] > 1e-5
    expected = whole.argmax(0)
    np.testing.assert_array_equal(found[placement.crop.slices][clear], expected[clear])
    assert np.count_nonzero(found) == np.count_nonzero(found[placement.crop.slices])
    np.testing.assert_array_equal(restored(logits, sizes, placement, ((4, 11), (5,))), source)


def test_thick_slices_take_the_nearest_logits() -> None:
    logits = some_logits((6, 20, 15))
    placement = place((15, 24, 15), (6, 20, 15), source_mm=(5, 1, 1))
    found = restored(logits, [2, 4], placement)
    planes = np.stack(
        [
            [resize(p.astype(float), (24, 15), 1, mode="edge", anti_aliasing=False) for p in c]
            for c in logits
        ]
    )
    nearest = np.floor((np.arange(15) + 0.5) * 6 / 15).astype(int)
    expected = planes[:, nearest].argmax(0)
    assert np.mean(found[placement.crop.slices] != expected) < 1e-4


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_thin_slices_are_left_out_where_the_source_is_thick(rows: int) -> None:
    logits = some_logits((40, 12, 10))
    placement = place((8, 12, 10), (40, 12, 10), source_mm=(5, 1, 1))
    found = restored(logits, [7] * 5 + [5], placement, rows=rows)
    expected = logits[:, 2::5].argmax(0)  # the middle one of five
    np.testing.assert_array_equal(found[placement.crop.slices], expected)


def test_axes_are_put_back_as_they_were_stored() -> None:
    classes = np.random.default_rng(0).integers(0, 3, (6, 7, 8))
    logits = torch.nn.functional.one_hot(torch.from_numpy(classes)).movedim(-1, 0).float()
    placement = place((6, 7, 8), (6, 7, 8), flipped=(0, 2), order=(2, 0, 1))
    found = restored(logits.numpy(), [6], placement)
    assert found.shape == placement.source_shape_vox
    forward = placement.to_plan_axes(found)
    np.testing.assert_array_equal(forward[placement.crop.slices], classes)
