"""Covers: tiff_tags."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.images.formats import (
    files_of,
    read_raw,
)
from tests.images.made import (
    COLOURS,
    RNG,
    SCAN,
    save_tiff,
)

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


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
@pytest.mark.parametrize("packing", [{}, {"compression": "deflate"}, PREDICTED, "tiff_lzw"])
def test_an_orientation_tag_turns_pixels_in_no_packing(
    tmp_path: Path, packing: Any, orientation: int
) -> None:
    picture, path = SCAN[0].astype(np.uint8), tmp_path / "a.tif"
    if packing == "tiff_lzw":
        Image.fromarray(picture).save(path, compression=packing, tiffinfo={274: orientation})
    else:
        save_tiff(path, picture, extratags=[(274, 3, 1, orientation, True)], **packing)
    raw = read_raw(path)
    np.testing.assert_array_equal(
        raw.array[0, 0], tifffile.imread(path) if packing != "tiff_lzw" else picture
    )
    assert [oddity.kind for oddity in raw.oddities] == ["orientation_tag"]


@pytest.mark.parametrize("packing", [{}, PREDICTED])
@pytest.mark.parametrize(("bigtiff", "byteorder"), [(False, "<"), (False, ">"), (True, "<")])
def test_white_as_zero_inverts_numbers_in_no_packing(
    tmp_path: Path, packing: dict[str, Any], bigtiff: bool, byteorder: Any
) -> None:
    picture, path = SCAN[0].astype(np.uint16), tmp_path / "a.tif"
    kind = {"photometric": "miniswhite", "bigtiff": bigtiff, "byteorder": byteorder}
    save_tiff(path, picture, **kind, **packing)
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.array[0, 0], picture)
    assert [oddity.kind for oddity in raw.oddities] == ["photometric"]


def test_a_big_endian_bigtiff_is_refused_by_name(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a.tif", SCAN[0], bigtiff=True, byteorder=">")
    with pytest.raises(AutosegError, match="BigTIFF whose numbers begin with the high byte"):
        read_raw(tmp_path / "a.tif")


def test_bytes_behind_a_strip_do_not_count(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", SCAN[0])
    content = path.read_bytes() + bytes(16)
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags["StripByteCounts"]
        place, size = tag.valueoffset, tag.value[0]
    changed = bytearray(content)
    changed[place : place + 4] = (size + 16).to_bytes(4, "little")
    path.write_bytes(changed)
    np.testing.assert_array_equal(read_raw(path).array[0, 0], SCAN[0])


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_tones_of_few_bits_are_as_stored(tmp_path: Path, bits: int) -> None:
    pixels = RNG.integers(0, 2**bits, (5, 8)).astype(np.uint8)
    few = np.unpackbits(pixels[..., None], axis=-1)[..., -bits:]
    packed = np.packbits(few.reshape(5, -1), axis=1).tobytes()
    tags = [(256, 8), (257, 5), (258, bits), (259, 1), (262, 1), (273, 8), (278, 5)]
    tags += [(279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    end = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(start + packed + end)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array[0, 0], pixels)
