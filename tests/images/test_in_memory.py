from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.errors import AutosegError
from autoseg.images.in_memory import sitk_of_volume, volume_of_array, volume_of_sitk
from autoseg.images.volume import Volume, read_image


def oblique_image() -> sitk.Image:
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.9, 3.0))
    image.SetOrigin((-12.0, 30.5, 7.25))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, 0.2, -0.3)
    image.SetDirection(turn.GetMatrix())
    return image


def test_an_image_in_memory_is_the_same_scan_as_its_file(tmp_path: Path) -> None:
    image = oblique_image()
    sitk.WriteImage(image, tmp_path / "scan.nii.gz")
    held, read = volume_of_sitk(image), read_image(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(held.array, read.array)
    np.testing.assert_allclose(held.grid.affine_ras_mm, read.grid.affine_ras_mm, atol=1e-5)


def test_a_mask_goes_back_to_where_simpleitk_had_it() -> None:
    image = oblique_image()
    scan = volume_of_sitk(image)
    mask = sitk_of_volume(Volume((scan.array[0] > 0).astype(np.uint8), scan.grid, None))
    assert mask.GetSize() == image.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(image, name)(), atol=1e-12)


def test_an_array_lies_where_its_spacing_or_affine_says() -> None:
    array = np.zeros((2, 4, 5, 6), np.int16)
    scan = volume_of_array(array, spacing_mm=(3.0, 0.9, 0.7))
    assert scan.grid.spacing_mm == pytest.approx((3.0, 0.9, 0.7))
    assert scan.grid.axis_codes == "SAR"
    affine = np.diag([-0.7, -0.9, 3.0, 1.0])
    assert volume_of_array(array[0], affine_ras_mm=affine).grid.axis_codes == "SPL"


@pytest.mark.parametrize(
    ("array", "told", "message"),
    [
        (np.zeros((4, 5)), {"spacing_mm": (1, 1, 1)}, "has 2 axes"),
        (np.zeros((4, 5, 6)), {}, "either the scan's spacing_mm or its affine"),
        (np.full((4, 5, 6), np.nan), {"spacing_mm": (1, 1, 1)}, "NaN"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, 0, 1)}, "must be above 0"),
    ],
)
def test_what_is_no_scan_is_refused(array: np.ndarray, told: dict[str, Any], message: str) -> None:
    with pytest.raises(AutosegError, match=message):
        volume_of_array(array, **told)
