"""Voxels of NRRD and MetaImage files are counted, however they are packed; what is odd is told.

Covers: text_fields.
"""

import builtins
import bz2
import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.errors import AutosegError
from autoseg.images.formats import read_raw
from tests.images.made import SCAN

META = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nOffset = 0 0 0\n"
NRRD = (
    "NRRD0004\ntype: int16\ndimension: 3\nsizes: 6 5 4\nendian: little\n"
    "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
)
STORED = SCAN.astype("<i2").tobytes()
SLICES = [plane.astype("<i2").tobytes() for plane in SCAN]


def told(path: Path) -> list[str]:
    """What is odd in a file whose voxels are right."""
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.array[0], SCAN)
    return [oddity.kind for oddity in raw.oddities]


@pytest.mark.parametrize(
    ("stated", "odd"), [(None, True), (0, True), (10, True), (9999, True), (0.5, False)]
)
def test_a_compressed_size_that_is_wrong_is_told_and_not_believed(
    tmp_path: Path, stated: float | None, odd: bool
) -> None:
    packed = zlib.compress(STORED)
    size = len(packed) if stated == 0.5 else stated
    lines = META + "CompressedData = True\n"
    lines += "" if size is None else f"CompressedDataSize = {size}\n"
    (tmp_path / "a.mha").write_bytes((lines + "ElementDataFile = LOCAL\n").encode() + packed)
    assert told(tmp_path / "a.mha") == (["header"] if odd else [])


def write_slices(folder: Path) -> list[str]:
    names = [f"s{index}.raw" for index in range(4)]
    for name, content in zip(names, SLICES, strict=True):
        (folder / name).write_bytes(content)
    return names


@pytest.mark.parametrize("end", ["\n", "", "\n\n"])
def test_a_list_needs_no_line_end(tmp_path: Path, end: str) -> None:
    names = "\n".join(write_slices(tmp_path))
    (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = LIST\n{names}{end}")
    assert told(tmp_path / "a.mhd") == []


def test_a_list_of_nrrd_is_read(tmp_path: Path) -> None:
    names = "\n".join(write_slices(tmp_path))
    (tmp_path / "a.nrrd").write_text(f"{NRRD}encoding: raw\ndata file: LIST\n{names}\n")
    assert told(tmp_path / "a.nrrd") == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_of_too_few_files_is_refused_with_both_numbers(tmp_path: Path, count: int) -> None:
    names = write_slices(tmp_path)[:count]
    (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = LIST\n" + "\n".join(names))
    expected = "names 3 files for 4 slices" if count == 3 else r"holds 60 of 240 bytes"
    with pytest.raises(AutosegError, match=expected):
        read_raw(tmp_path / "a.mhd")


@pytest.mark.parametrize("pattern", ["s%d.raw 0 3 1", "r%d.raw 3 0 -1", "s%01d.raw 0 3 1"])
def test_patterns_count_up_and_down(tmp_path: Path, pattern: str) -> None:
    for index, name in enumerate(write_slices(tmp_path)):
        (tmp_path / f"r{3 - index}.raw").write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "a.nrrd").write_text(f"{NRRD}encoding: raw\ndata file: {pattern}\n")
    assert told(tmp_path / "a.nrrd") == []


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ("byte skip: 7\n", b"1234567"),
        ("line skip: 2\n", b"one\ntwo\n"),
        ("line skip: 1\nbyte skip: 3\n", b"one\nabc"),
        ("byte skip: -1\n", b"whatever is before"),
    ],
)
def test_what_nrrd_says_to_skip_is_skipped(tmp_path: Path, fields: str, before: bytes) -> None:
    (tmp_path / "a.raw").write_bytes(before + STORED)
    (tmp_path / "a.nrrd").write_text(f"{NRRD}encoding: raw\n{fields}data file: a.raw\n")
    assert told(tmp_path / "a.nrrd") == []


@pytest.mark.parametrize("size", [-1, 12])
def test_what_a_metaimage_says_to_skip_is_skipped(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.raw").write_bytes(b"another head" + STORED)
    (tmp_path / "a.mhd").write_text(f"{META}HeaderSize = {size}\nElementDataFile = a.raw\n")
    assert told(tmp_path / "a.mhd") == []


def test_every_file_of_a_list_may_be_packed(tmp_path: Path) -> None:
    for index, content in enumerate(SLICES):
        (tmp_path / f"s{index}.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.nrrd").write_text(f"{NRRD}encoding: gzip\ndata file: s%d.gz 0 3 1\n")
    assert told(tmp_path / "a.nrrd") == []


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_bytes_behind_the_voxels_are_told(tmp_path: Path, name: str) -> None:
    header = NRRD + "encoding: raw\n\n" if name == "a.nrrd" else META + "ElementDataFile = LOCAL\n"
    (tmp_path / name).write_bytes(header.encode() + STORED + b"more")
    assert told(tmp_path / name) == ["trailing_bytes"]


@pytest.mark.parametrize("name", ["A.MHA", "A.MHD", "A.NRRD", "a.Mha"])
def test_endings_in_capitals_are_read_alike(tmp_path: Path, name: str) -> None:
    small = tmp_path / name.lower()
    sitk.WriteImage(sitk.GetImageFromArray(SCAN), str(small))
    assert told(small.rename(tmp_path / name)) == []


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (3, 4, 5, 6)])
def test_voxels_are_those_of_simpleitk(
    tmp_path: Path, name: str, packed: bool, dtype: Any, shape: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / name), packed)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
    found = read_raw(tmp_path / name)
    assert found.array.dtype.newbyteorder("=") == expected.dtype
    np.testing.assert_array_equal(np.squeeze(found.array), expected)
    assert found.oddities == ()


@pytest.mark.parametrize("axis", [0, 3])
def test_components_of_nrrd_may_come_first_or_last(tmp_path: Path, axis: int) -> None:
    vectors = np.random.default_rng(0).integers(0, 99, (4, 5, 6, 2)).astype("<i2")
    sizes = [6, 5, 4]
    sizes.insert(axis, 2)
    kinds = ["domain"] * 3
    kinds.insert(axis, "vector")
    header = f"NRRD0004\ntype: int16\ndimension: 4\nsizes: {' '.join(map(str, sizes))}\n"
    header += f"kinds: {' '.join(kinds)}\nendian: little\nencoding: raw\n\n"
    stored = vectors if axis == 0 else np.moveaxis(vectors, -1, 0)
    (tmp_path / "a.nrrd").write_bytes(header.encode() + stored.tobytes())
    np.testing.assert_array_equal(np.moveaxis(read_raw(tmp_path / "a.nrrd").array, 0, -1), vectors)


def test_big_endian_voxels_are_turned(tmp_path: Path) -> None:
    content = SCAN.astype(">i2").tobytes()
    head = META + "BinaryDataByteOrderMSB = True\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + content)
    head = NRRD.replace("little", "big") + "encoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + content)
    assert told(tmp_path / "a.mha") == told(tmp_path / "a.nrrd") == []


def test_bzip2_is_named_with_what_to_do(tmp_path: Path) -> None:
    content = (NRRD + "encoding: bzip2\n\n").encode() + bz2.compress(STORED)
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(AutosegError, match=r"compressed with bzip2.*Save it with gzip"):
        read_raw(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nrrd", "a.png", "a.tif", "a.mgz"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"secret")

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", forbidden)
    with pytest.raises(AutosegError, match=r"may not be read by this user.*chmod"):
        read_raw(tmp_path / name)


def with_fields(folder: Path, kind: str, fields: str) -> Path:
    path = folder / f"a.{kind}"
    end = "ElementDataFile = LOCAL\n" if kind == "mha" else "encoding: raw\n\n"
    path.write_bytes(((META if kind == "mha" else NRRD) + fields + end).encode() + STORED)
    return path


@pytest.mark.parametrize(
    ("kind", "fields", "spacing_mm"),
    [
        ("nrrd", 'space units: "um" "um" "um"\n', (0.001,) * 3),
        ("nrrd", 'space units: "mm" "mm" "mm"\n', (1.0,) * 3),
        ("mha", "ElementSpacing = 1 2 3\nDistanceUnits = cm\n", (30.0, 20.0, 10.0)),
        ("mha", "DistanceUnits = ?\n", (1.0,) * 3),
    ],
)
def test_units_are_those_that_a_header_states(
    tmp_path: Path, kind: str, fields: str, spacing_mm: tuple[float, ...]
) -> None:
    raw = read_raw(with_fields(tmp_path, kind, fields))
    assert raw.grid.spacing_mm == pytest.approx(spacing_mm)
    other = "um" in fields or "cm" in fields
    assert [oddity.kind for oddity in raw.oddities] == (["unit"] if other else [])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("mha", "ElementSpacing = -1 1 1\n"),
        ("mha", "TransformMatrix = 2 0 0 0 1 0 0 0 1\n"),
        ("mha", "ElementToIntensityFunctionSlope = 2\n"),
    ],
)
def test_numbers_that_cannot_be_are_told(tmp_path: Path, kind: str, fields: str) -> None:
    assert told(with_fields(tmp_path, kind, fields)) == ["header"]


def test_a_spacing_that_is_no_number_is_told(tmp_path: Path) -> None:
    header = NRRD.partition("space")[0] + "spacings: 1 1 nan\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + STORED)
    assert told(tmp_path / "a.nrrd") == ["header", "no_orientation"]


def test_two_orders_of_bytes_are_refused(tmp_path: Path) -> None:
    orders = "BinaryDataByteOrderMSB = False\nElementByteOrderMSB = True\n"
    with pytest.raises(AutosegError, match="two orders of bytes"):
        read_raw(with_fields(tmp_path, "mha", orders))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_volumes_that_state_no_place_are_told(tmp_path: Path, name: str) -> None:
    header = META.replace("Offset = 0 0 0\n", "") + "ElementDataFile = LOCAL\n"
    if name == "a.nrrd":
        header = NRRD.partition("space")[0] + "encoding: raw\n\n"
    (tmp_path / name).write_bytes(header.encode() + STORED)
    assert told(tmp_path / name) == ["no_orientation"]
    assert not read_raw(tmp_path / name).is_placed


@pytest.mark.parametrize("pattern", ["s%d%d.raw 0 3 1", "s%d.raw 0 9999999999 1"])
def test_patterns_that_name_no_files_are_named(tmp_path: Path, pattern: str) -> None:
    write_slices(tmp_path)
    (tmp_path / "a.nrrd").write_text(f"{NRRD}encoding: raw\ndata file: {pattern}\n")
    with pytest.raises(AutosegError, match=r"a\.nrrd: "):
        read_raw(tmp_path / "a.nrrd")


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="functionslope is 'steep'"):
        read_raw(with_fields(tmp_path, "mha", "ElementToIntensityFunctionSlope = steep\n"))


def test_an_axis_of_components_needs_no_spacing(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 2 6 5\nendian: little\n"
    header += "kinds: vector domain domain\nspacings: nan 1 1\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + STORED[:120])
    assert read_raw(tmp_path / "a.nrrd").oddities == ()
