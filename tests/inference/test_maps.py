import numpy as np
import pytest
import torch

from autoseg.geometry import Box, Placement, Shape3
from autoseg.inference.maps import along_source


def slopes(field: np.ndarray) -> np.ndarray:
    """[axis, *space]"""
    return np.stack([np.gradient(field, axis=axis) for axis in range(3)])


@pytest.mark.parametrize("flipped", [(), (0,), (1, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_vectors_turn_with_the_axes_that_they_are_along(
    flipped: tuple[int, ...], order: Shape3
) -> None:
    shape: Shape3 = (5, 6, 7)
    placement = Placement(
        source_shape_vox=shape,
        flipped_axes=flipped,
        axis_order=order,
        crop=Box(start=(0, 0, 0), stop=shape),
        resampled_shape_vox=shape,
        source_spacing_mm=(1, 1, 1),
        target_spacing_mm=(1, 1, 1),
    )
    field = np.random.default_rng(0).normal(size=shape)
    planned = slopes(np.ascontiguousarray(placement.to_plan_axes(field)))
    turned = along_source(torch.from_numpy(planned), placement).numpy()
    np.testing.assert_allclose(placement.to_source_axes(turned), slopes(field))
    depth = torch.ones(1, *shape)
    assert torch.equal(along_source(depth, placement), depth)
