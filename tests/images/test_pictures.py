from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from autoseg.images.formats import (
    read_raw,
)
from tests.images.made import (
    COLOURS,
    RNG,
    SCAN,
)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".tiff"])
def test_pictures_hold_colours_as_channels(tmp_path: Path, ending: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / f"a{ending}", dpi=(300, 300))
    raw = read_raw(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(raw.array[:, 0], np.moveaxis(COLOURS, -1, 0))
    np.testing.assert_array_equal(raw.grid.affine_ras_mm, np.eye(4))  # dpi is no spacing
    np.testing.assert_array_equal(raw.nifti_header.get_best_affine(), np.eye(4))


@pytest.mark.parametrize("ending", [".jpg", ".jpeg"])
def test_jpeg_is_read_as_simpleitk_reads_it(tmp_path: Path, ending: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / f"a{ending}", subsampling=0)
    second = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{ending}")))
    array = read_raw(tmp_path / f"a{ending}").array[:, 0]
    np.testing.assert_allclose(array, np.moveaxis(second, -1, 0), atol=2)  # decoders round


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_and_alpha_goes(
    tmp_path: Path, ending: str, channels: int
) -> None:
    pixels = RNG.integers(0, 2**16, (5, 6, channels)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / f"a{ending}"))
    array = read_raw(tmp_path / f"a{ending}").array
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array[:, 0], np.moveaxis(pixels[..., :3], -1, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_no_channel(tmp_path: Path, mode: str) -> None:
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png"))[..., :-1]
    array = read_raw(tmp_path / "a.png").array
    np.testing.assert_array_equal(array[:, 0], np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_two_tones_are_zero_and_one(tmp_path: Path, ending: str) -> None:
    mask = SCAN[0] > 1000
    Image.fromarray(mask).save(tmp_path / f"a{ending}")
    array = read_raw(tmp_path / f"a{ending}").array
    np.testing.assert_array_equal(array[0, 0], mask)
    assert array.dtype == np.uint8
