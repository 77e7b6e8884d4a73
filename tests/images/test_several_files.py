"""Covers: text_headers."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.errors import AutosegError
from autoseg.images.formats import (
    files_of,
    read_raw,
)
from tests.images.made import (
    SCAN,
    itk_image,
)


def test_an_image_is_mostly_one_file(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / "a.mha"))
    for path in (tmp_path / "a.mha", tmp_path / "a.nii.gz", tmp_path / "missing.mhd"):
        assert files_of(path) == (path,)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_mhd_has_its_voxels_in_a_second_file(tmp_path: Path, compressed: bool) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / "a.mhd"), compressed)
    voxels = tmp_path / ("a.zraw" if compressed else "a.raw")
    assert files_of(tmp_path / "a.mhd") == (tmp_path / "a.mhd", voxels)
    voxels.unlink()
    assert files_of(tmp_path / "a.mhd") == (tmp_path / "a.mhd",)
    with pytest.raises(AutosegError, match=r"a\.mhd: its voxels are missing.*raw"):
        read_raw(tmp_path / "a.mhd")


META = (
    "NDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    "ElementDataFile = "
)
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nencoding: raw\nendian: little\n"
    "spacings: 1 1 1\ndata file: "
)


@pytest.mark.parametrize(("ending", "header"), [(".mhd", META), (".nrrd", NRRD)])
@pytest.mark.parametrize("names", ["LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw\n", "s%d.raw 1 4 1\n"])
def test_voxels_may_be_in_a_file_per_slice(
    tmp_path: Path, ending: str, header: str, names: str
) -> None:
    slices = [tmp_path / f"s{number}.raw" for number in (1, 2, 3, 4)]
    for file, pixels in zip(slices, SCAN, strict=True):
        file.write_bytes(pixels.astype("<i2").tobytes())
    path = tmp_path / f"a{ending}"
    path.write_text(header + names)
    np.testing.assert_array_equal(read_raw(path).array[0], SCAN)
    assert files_of(path) == (path, *slices)
