import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.image_files import (
    READERS,
    file_ending,
    files_of,
    read_raw,
    stated_unit,
    transforms_disagree,
)
from tests.conftest import SHARED_DATA

ROTATION = euler2mat(0.2, -0.1, 0.3)
OBLIQUE = from_matvec(ROTATION @ np.diag([0.7, 0.8, -2.5]), [10, -20, 30])
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)
SCAN: NDArray[np.int16] = RNG.integers(-1000, 3000, (4, 5, 6)).astype(np.int16)  # [z, y, x]
COLOURS: NDArray[np.uint8] = RNG.integers(0, 256, (5, 6, 3)).astype(np.uint8)  # [y, x, colour]
BLOCK: NDArray[np.int16] = RNG.integers(0, 1000, (20, 30, 40)).astype(np.int16)


def itk_image(array: NDArray[Any], affine: NDArray[np.float64] = OBLIQUE) -> sitk.Image:
    """A SimpleITK image [z, y, x] with the place that an affine to RAS mm gives it."""
    image = sitk.GetImageFromArray(array)
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def itk_affine_ras(path: Path) -> NDArray[np.float64]:
    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine: NDArray[np.float64] = from_matvec(direction * image.GetSpacing(), image.GetOrigin())
    return LPS_TO_RAS @ affine


def save_nifti(path: Path, array: NDArray[Any], affine: Any = OBLIQUE, **fields: Any) -> Path:
    """Write [x, y, z, ...] as NIfTI-1, then set `fields` in its header."""
    nib.save(nib.Nifti1Image(array, affine), path)
    if fields:
        content = path.read_bytes()
        header = nib.Nifti1Header(content[:348])
        for name, value in fields.items():
            header[name] = value
        path.write_bytes(header.binaryblock + content[348:])
    return path


def save_tiff(path: Path, array: NDArray[Any], **options: Any) -> Path:
    if array.dtype != bool and not {"imagej", "ome"} & options.keys():
        options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, array, **options)
    return path


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def damage(path: Path, at: float = 0.5) -> Path:
    """Turn one byte over, at a fraction of the file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x55
    path.write_bytes(content)
    return path


# --- volumes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
def test_volumes_lie_where_simpleitk_put_them(tmp_path: Path, name: str) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / name))
    raw = read_raw(tmp_path / name)
    np.testing.assert_array_equal(raw.array[0], SCAN)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgh", "a.mgz"])
def test_volumes_lie_where_nibabel_put_them(tmp_path: Path, name: str) -> None:
    kind = nib.MGHImage if ".mg" in name else nib.Nifti1Image
    nib.save(kind(SCAN.T, OBLIQUE), tmp_path / name)
    second = nib.load(tmp_path / name)
    raw = read_raw(tmp_path / name)
    np.testing.assert_array_equal(raw.array[0], np.asarray(second.dataobj).T)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, second.affine, atol=1e-6)
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), second.affine, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", ">u2", "i4", ">f4", "f8", "u8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_of_every_type_and_byte_order(tmp_path: Path, dtype: str, kind: Any) -> None:
    array = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
    header = kind.header_class(endianness=">" if ">" in dtype else "<")
    header.set_data_dtype(np.dtype(dtype))
    nib.save(kind(array, OBLIQUE, header), tmp_path / "a.nii")
    raw = read_raw(tmp_path / "a.nii")
    np.testing.assert_array_equal(raw.array[0], array.T)
    assert raw.array.dtype == np.dtype(dtype)


def test_sheared_axes_keep_their_shear(tmp_path: Path) -> None:
    affine = OBLIQUE.copy()
    affine[0, 1] += 0.3
    path = save_nifti(tmp_path / "a.nii", SCAN.T, affine)
    np.testing.assert_allclose(read_raw(path).grid.affine_ras_mm, affine, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 4), (3, 4, 5, 1), (3, 4, 5, 1, 1), (3, 4, 1, 1, 1, 1)])
def test_axes_of_length_one_are_no_channels(tmp_path: Path, size: tuple[int, ...]) -> None:
    array = RNG.normal(size=size).astype(np.float32)
    raw = read_raw(save_nifti(tmp_path / "a.nii", array))
    np.testing.assert_array_equal(raw.array[0], array.reshape((*size, 1)[:3]).T)


@pytest.mark.parametrize("size", [(3, 4, 5, 2), (3, 4, 5, 1, 2), (3, 4, 5, 2, 1)])
def test_one_axis_after_the_third_holds_channels(tmp_path: Path, size: tuple[int, ...]) -> None:
    array = RNG.normal(size=size).astype(np.float32)
    raw = read_raw(save_nifti(tmp_path / "a.nii", array))
    np.testing.assert_array_equal(raw.array, array.reshape(3, 4, 5, 2).T)


@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_nifti_colours_are_channels_without_alpha(tmp_path: Path, colours: str) -> None:
    voxels = np.zeros((3, 4, 5), [(colour, "u1") for colour in colours])
    for number, colour in enumerate(colours):
        voxels[colour] = RNG.integers(0, 255, (3, 4, 5)) // (number + 1)
    raw = read_raw(save_nifti(tmp_path / "a.nii", voxels))
    np.testing.assert_array_equal(raw.array, np.stack([voxels[c].T for c in "RGB"]))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_components_and_a_fourth_axis_are_channels(tmp_path: Path, ending: str) -> None:
    scans = np.stack([SCAN, SCAN + 1])
    components = sitk.GetImageFromArray(np.moveaxis(scans, 0, -1), isVector=True)
    sitk.WriteImage(components, str(tmp_path / f"a{ending}"))
    sitk.WriteImage(sitk.JoinSeries([itk_image(s) for s in scans]), str(tmp_path / f"b{ending}"))
    np.testing.assert_array_equal(read_raw(tmp_path / f"a{ending}").array, scans)
    np.testing.assert_array_equal(read_raw(tmp_path / f"b{ending}").array, scans)
    affine = read_raw(tmp_path / f"b{ending}").grid.affine_ras_mm
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-6)


def test_a_2d_nrrd_is_one_slice(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(SCAN[0])
    image.SetSpacing([0.5, 0.7])
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    raw = read_raw(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(raw.array, SCAN[None, :1])
    np.testing.assert_allclose(raw.grid.affine_ras_mm, np.diag([-0.5, -0.7, 1, 1]))


def test_a_gzip_file_is_known_by_its_content(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", SCAN.T)
    (tmp_path / "a.nii.gz").rename(tmp_path / "packed.nii")
    save_nifti(tmp_path / "b.nii", SCAN.T)
    (tmp_path / "b.nii").rename(tmp_path / "plain.nii.gz")
    for name in ("packed.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_raw(tmp_path / name).array[0], SCAN)


# --- NIfTI headers ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "unit"), [("meter", "m"), ("mm", "mm"), ("micron", "um")])
def test_grids_are_in_millimetres_whatever_the_header_states(
    tmp_path: Path, name: str, unit: str
) -> None:
    image = nib.Nifti1Image(SCAN.T, OBLIQUE)
    image.header.set_xyzt_units(name)
    nib.save(image, tmp_path / "a.nii")
    raw = read_raw(tmp_path / "a.nii")
    np.testing.assert_allclose(
        raw.grid.affine_ras_mm, itk_affine_ras(tmp_path / "a.nii"), rtol=1e-5, atol=1e-6
    )
    assert stated_unit(raw.nifti_header) == unit
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), OBLIQUE, atol=1e-5)


def test_an_undefined_unit_code_is_an_unknown_unit(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, xyzt_units=7)
    assert stated_unit(read_raw(path).nifti_header) == "unknown"
    np.testing.assert_allclose(read_raw(path).grid.affine_ras_mm, OBLIQUE, atol=1e-6)


def test_without_qform_and_sform_the_scan_lies_as_nibabel_says(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, sform_code=0, qform_code=0)
    expected = nib.load(path).affine
    np.testing.assert_array_equal(read_raw(path).grid.affine_ras_mm, expected)


@pytest.mark.parametrize(("shift_mm", "disagree"), [(0.0, False), (0.05, False), (0.3, True)])
def test_qform_and_sform_apart_are_noticed(shift_mm: float, disagree: bool) -> None:
    header = nib.Nifti1Image(SCAN.T, OBLIQUE).header
    shifted = OBLIQUE.copy()
    shifted[0, 3] += shift_mm
    header.set_qform(shifted, 1)
    header.set_sform(OBLIQUE, 1)
    assert transforms_disagree(header) is disagree
    header.set_qform(shifted, 0)
    assert not transforms_disagree(header)


def test_how_far_transforms_are_apart_is_measured_in_millimetres() -> None:
    header = nib.Nifti1Image(SCAN.T, np.eye(4)).header
    header.set_qform(from_matvec(np.eye(3), [0.001, 0, 0]), 1)
    header.set_sform(np.eye(4), 1)
    assert not transforms_disagree(header)
    header.set_xyzt_units("meter")
    assert transforms_disagree(header)


def test_a_qform_that_is_no_rotation_disagrees(tmp_path: Path) -> None:
    quaternion = {"quatern_b": 1, "quatern_c": 1, "quatern_d": 1}
    path = save_nifti(tmp_path / "a.nii", SCAN.T, sform_code=1, qform_code=1, **quaternion)
    assert transforms_disagree(read_raw(path).nifti_header)


# --- 2D pictures ------------------------------------------------------------------------------


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


# --- TIFF -------------------------------------------------------------------------------------

PREDICTED = {"compression": "deflate", "predictor": True}
TIFFS: dict[str, tuple[Any, dict[str, Any]]] = {
    "int16": (SCAN, {}),
    "uint32": (SCAN.astype(np.uint32), {}),
    "int64": (SCAN.astype(np.int64), {}),
    "float16": (SCAN.astype(np.float16), {}),
    "float32": (SCAN.astype(np.float32), {}),
    "float64": (SCAN.astype(np.float64), {}),
    "two tones": (SCAN > 0, {}),
    "big-endian": (SCAN, {"byteorder": ">"}),
    "BigTIFF": (SCAN, {"bigtiff": True}),
    "deflate": (SCAN, {"compression": "deflate"}),
    "predictor": (SCAN, PREDICTED),
    "tiles": (SCAN.astype(np.uint16), {"tile": (16, 16)}),
    "white is zero": (SCAN.astype(np.uint8), {"photometric": "miniswhite"}),
    "ImageJ": (SCAN.astype(np.uint16), {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "OME": (SCAN, {"ome": True, "metadata": {"axes": "ZYX"}}),
    "colours": (np.stack([COLOURS] * 4), {"photometric": "rgb"}),
    "deep colours as planes": (
        RNG.integers(0, 2**16, (4, 3, 5, 6)).astype(np.uint16),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "packed colours as planes": (
        np.stack([np.moveaxis(COLOURS, -1, 0)] * 4),
        {"photometric": "rgb", "planarconfig": "separate"} | PREDICTED,
    ),
    "look-up table": (
        SCAN.astype(np.uint8),
        {"photometric": "palette", "colormap": RNG.integers(0, 2**16, (3, 256)).astype(np.uint16)},
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff_volumes_hold_what_tifffile_reads(tmp_path: Path, kind: str) -> None:
    array, options = TIFFS[kind]
    path = save_tiff(tmp_path / "a.tif", array, **options)
    (tmp_path / "a.json").write_text('{"spacing": [3, 0.7, 0.5]}')
    expected = tifffile.imread(path)
    if kind == "colours":
        expected = np.moveaxis(expected, -1, 0)
    elif "planes" in kind:
        expected = np.moveaxis(expected, 1, 0)
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.array, expected.reshape(raw.array.shape))
    assert raw.array.dtype == (np.uint8 if expected.dtype == bool else expected.dtype)
    assert raw.grid.spacing_mm == (3, 0.7, 0.5)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "group4", "jpeg"])
def test_packed_tiffs_hold_what_pillow_packed(tmp_path: Path, compression: str) -> None:
    pixels = SCAN[0] > 0 if compression == "group4" else SCAN[0].astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    expected = np.asarray(Image.open(tmp_path / "a.tif"))
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array[0, 0], expected)


def test_thumbnails_in_a_tiff_are_no_slices(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(SCAN[0], photometric="minisblack")
        writer.write(SCAN[0, ::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array[0, 0], SCAN[0])


@pytest.mark.parametrize(
    ("image", "side"),
    [("a_0000.tif", "a.json"), ("a_0000.tif", "a_0000.json"), ("a.tif", "a.json")],
)
def test_a_tiff_volume_takes_its_spacing_from_its_side_file(
    tmp_path: Path, image: str, side: str
) -> None:
    save_tiff(tmp_path / image, SCAN)
    (tmp_path / side).write_text('{"spacing": [3, 0.7, 0.5]}')
    raw = read_raw(tmp_path / image)
    np.testing.assert_array_equal(raw.grid.affine_ras_mm, np.diag([0.5, 0.7, 3, 1]))
    assert files_of(tmp_path / image) == (tmp_path / image, tmp_path / side)


def test_a_tiff_volume_without_spacing_says_which_file_to_write(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a_0000.tif", SCAN)
    with pytest.raises(AutosegError, match=r'4 pages.*"spacing": \[z, y, x\].*/a\.json'):
        read_raw(tmp_path / "a_0000.tif")


@pytest.mark.parametrize("spacing", ["[1, 2]", '"1 2 3"', "[1, 0, 1]", "[1, 1, NaN]", "", "null"])
def test_a_malformed_side_file_is_refused(tmp_path: Path, spacing: str) -> None:
    save_tiff(tmp_path / "a.tif", SCAN)
    (tmp_path / "a.json").write_text(f'{{"spacing": {spacing}}}')
    with pytest.raises(AutosegError, match=r"a\.json: (states no spacing|not valid JSON)"):
        read_raw(tmp_path / "a.tif")


def test_a_json_file_beside_a_2d_tiff_may_be_about_something_else(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a.tif", SCAN[0], resolution=(300, 300))
    (tmp_path / "a.json").write_text('{"shapes": []}')
    assert read_raw(tmp_path / "a.tif").grid.spacing_mm == (1, 1, 1)
    (tmp_path / "a.json").write_text('{"spacing": [5, 2, 2]}')
    assert read_raw(tmp_path / "a.tif").grid.spacing_mm == (5, 2, 2)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
def test_tiff_pages_that_are_channels_are_no_slices(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    stack = RNG.integers(0, 255, (4, 2, 5, 6)).astype(np.uint16)
    save_tiff(tmp_path / "a.tif", stack, metadata={"axes": "ZCYX"}, **options)
    with pytest.raises(AutosegError, match="not only slices of one volume"):
        read_raw(tmp_path / "a.tif")


def test_tiff_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(SCAN[0], photometric="minisblack")
        writer.write(SCAN[0, 1:], photometric="minisblack")
    with pytest.raises(AutosegError, match="differ in size or type"):
        read_raw(tmp_path / "a.tif")


def test_a_tiff_that_no_library_reads_whole_is_refused(tmp_path: Path) -> None:
    colours = RNG.integers(0, 2**16, (32, 32, 3)).astype(np.uint16)  # pillow would cut to 8 bits
    save_tiff(tmp_path / "a.tif", colours, photometric="rgb", tile=(16, 16))
    with pytest.raises(AutosegError, match=r"neither SimpleITK nor pillow.*uint16.*tiled"):
        read_raw(tmp_path / "a.tif")


# --- files of an image ------------------------------------------------------------------------


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


# --- what is refused --------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.nii": lambda path: save_nifti(path, BLOCK.T),
    "a.nii.gz": lambda path: save_nifti(path, BLOCK.T),
    "a.mgh": lambda path: nib.save(nib.MGHImage(BLOCK.T, OBLIQUE), path),
    "a.mgz": lambda path: nib.save(nib.MGHImage(BLOCK.T, OBLIQUE), path),
    "a.nrrd": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path)),
    "packed.nrrd": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path), True),
    "a.mha": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path)),
    "packed.mha": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path), True),
    "a.png": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "deep.png": lambda path: sitk.WriteImage(
        sitk.GetImageFromArray(np.stack([BLOCK[0].astype(np.uint16)] * 3, -1), True), str(path)
    ),
    "a.bmp": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "a.jpg": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "a.tif": lambda path: save_tiff(path, BLOCK),
    "packed.tif": lambda path: save_tiff(path, BLOCK, compression="deflate"),
    "lzw.tif": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(
        path, compression="tiff_lzw"
    ),
}


@pytest.mark.parametrize("keep", [0, 0.01, 0.6, 0.95])
@pytest.mark.parametrize("name", WRITERS)
def test_files_cut_short_are_refused(tmp_path: Path, name: str, keep: float) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / name).with_suffix(".json").write_text('{"spacing": [1, 1, 1]}')
    read_raw(tmp_path / name)
    cut(tmp_path / name, keep)
    with pytest.raises(AutosegError, match=r"cannot be read as .* damaged or cut short"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.png", "deep.png"])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
def test_damaged_voxels_with_a_checksum_are_refused(tmp_path: Path, name: str, at: float) -> None:
    WRITERS[name](tmp_path / name)
    damage(tmp_path / name, at)
    with pytest.raises(AutosegError, match=f"{name}: cannot be read"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["packed.nrrd", "packed.mha", "packed.mhd", "packed.tif"])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
def test_damage_that_itk_would_not_mention_is_refused(tmp_path: Path, name: str, at: float) -> None:
    if name == "packed.mhd":
        sitk.WriteImage(itk_image(BLOCK), str(tmp_path / name), True)
        damage(tmp_path / "packed.zraw", at)
    else:
        WRITERS[name](tmp_path / name)
        (tmp_path / "packed.json").write_text('{"spacing": [1, 1, 1]}')
        damage(tmp_path / name, at)
    with pytest.raises(AutosegError, match=f"{name}: cannot be read"):
        read_raw(tmp_path / name)


def test_a_wrong_gzip_checksum_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", BLOCK.T)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the voxels are as they were; nibabel would not look
    path.write_bytes(content)
    with pytest.raises(AutosegError, match="CRC"):
        read_raw(path)


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    header = nib.Nifti1Image(SCAN.T, OBLIQUE).header
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"] = 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    with pytest.raises(AutosegError, match="promises 54000000000000 bytes"):
        read_raw(path)


def test_an_mha_with_too_few_compressed_voxels_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / "a.mha"), True)
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(content.replace(b"DimSize = 6 5 4", b"DimSize = 6 5 9"))
    with pytest.raises(AutosegError, match="cannot be read as MHA"):
        read_raw(tmp_path / "a.mha")


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_complex_numbers_are_refused(tmp_path: Path, name: str) -> None:
    numbers = SCAN.astype(np.complex64)
    if name == "a.nii":
        save_nifti(tmp_path / name, numbers.T)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(numbers), str(tmp_path / name))
    with pytest.raises(AutosegError, match="complex"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_series_of_vectors_and_five_axes_are_refused(tmp_path: Path, name: str) -> None:
    for image in (
        sitk.Image([2] * 4, sitk.sitkVectorInt16, 3),
        sitk.Image([2] * 5, sitk.sitkInt16),
    ):
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(AutosegError, match="neither a 3D scan nor one of several channels"):
            read_raw(tmp_path / name)


def test_a_series_of_vectors_in_nifti_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4, 2, 3), np.uint8))
    with pytest.raises(AutosegError, match=r"2x3x4x2x3.*neither a 3D scan"):
        read_raw(path)


def test_an_image_without_voxels_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, dim=[3, 0, 5, 4, 1, 1, 1, 1])
    with pytest.raises(AutosegError, match="0x5x4"):
        read_raw(path)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_affine_without_volume_is_refused(tmp_path: Path, value: float) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, srow_x=[value] * 4, sform_code=1, qform_code=0)
    with pytest.raises(AutosegError, match=r"affine is singular.*sform or qform"):
        read_raw(path)


def test_spacings_of_a_nanometre_are_no_singular_affine(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, np.diag([1e-6, 1e-6, 1e-6, 1]))
    np.testing.assert_allclose(read_raw(path).grid.spacing_mm, 1e-6)


def test_a_nifti_with_its_voxels_elsewhere_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(SCAN.T, OBLIQUE), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(AutosegError, match=r"in a \.img file"):
        read_raw(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", READERS)
def test_text_named_like_an_image_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_text("Not an image.\n" * 100)
    with pytest.raises(AutosegError, match=f"a{ending}: cannot be read"):
        read_raw(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", READERS)
def test_a_folder_named_like_an_image_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").mkdir()
    with pytest.raises(AutosegError, match="this is a folder"):
        read_raw(tmp_path / f"a{ending}")


def test_a_picture_of_grey_and_alpha_with_16_bits_is_refused(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 2**16, (5, 6, 2)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.png"))
    with pytest.raises(AutosegError, match="Save it without alpha"):
        read_raw(tmp_path / "a.png")


def test_endings_are_known_in_any_case() -> None:
    assert file_ending(Path("Scan.NII.GZ")) == ".nii.gz"
    assert file_ending(Path("scan.gz")) is None


# --- real files -------------------------------------------------------------------------------

ODD = [
    path
    for tool in ("nibabel", "mirp")
    for path in sorted((SHARED_DATA / "odd_headers" / tool).rglob("*"))
    if path.is_file() and file_ending(path)
]


@pytest.mark.skipif(not ODD, reason="real data are not here")
@pytest.mark.parametrize("path", ODD, ids=lambda path: path.name)
def test_odd_real_files_are_read_as_nibabel_reads_them(path: Path) -> None:
    second = nib.load(path)
    raw = read_raw(path)
    stored = second.dataobj.get_unscaled()
    np.testing.assert_array_equal(raw.array.reshape(stored.T.shape), stored.T)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, second.affine, atol=1e-6)
