"""Series made in code are read as SimpleITK and the standard's equation have them.

Covers: format, headers, opening, pixels, stacks.
"""

import logging
from itertools import product
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array

from autoseg.errors import AutosegError
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.dicom.series import stack_of
from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.formats import count_channels, count_values, files_of
from autoseg.images.volume import Volume, read_image
from tests.conftest import SHARED_DATA
from tests.dicom_series import (
    LPS_TO_RAS,
    NAME,
    ORIENTATIONS,
    Series,
    Triple,
    scan,
    write_enhanced,
    write_series,
)

COSINE, SINE = cos(0.3), sin(0.3)
OBLIQUE: tuple[Triple, Triple] = ((COSINE, SINE, 0.0), (-SINE * COSINE, COSINE * COSINE, SINE))
ODD = sorted(p for p in (SHARED_DATA / "odd_headers").rglob("*") if is_dicom(p))


def read_only(folder: Path) -> Volume:
    [volume] = survey_dicom([folder]).volumes
    return read_image(volume.path)


@pytest.mark.parametrize("shear_mm", [0.0, 0.9])
@pytest.mark.parametrize("directions", [*ORIENTATIONS, OBLIQUE])
def test_every_orientation_lies_where_the_standard_says(
    tmp_path: Path, directions: tuple[Triple, Triple], shear_mm: float
) -> None:
    series = Series(scan((4, 5, 6)), *directions, shear_mm=shear_mm)
    write_series(tmp_path / "classic", series)
    write_enhanced(tmp_path / "enhanced", series)
    for folder in tmp_path.iterdir():
        image = read_only(folder)
        np.testing.assert_allclose(image.grid.affine_ras_mm, series.affine_ras_mm(), atol=1e-6)
        np.testing.assert_array_equal(image.array[0], series.voxels.astype(np.float32) - 1024)


def test_simpleitk_reads_the_same(tmp_path: Path) -> None:
    write_series(tmp_path, Series(scan(), *OBLIQUE))
    image = read_only(tmp_path)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    second = sitk.ReadImage(names)
    np.testing.assert_array_equal(image.array[0], sitk.GetArrayFromImage(second))
    origin = LPS_TO_RAS[:3, :3] @ second.GetOrigin()
    np.testing.assert_allclose(image.grid.affine_ras_mm[:3, 3], origin, atol=1e-6)
    np.testing.assert_allclose(image.grid.spacing_mm[::-1], second.GetSpacing(), atol=1e-6)


def test_every_slice_knows_its_instance_and_frame(tmp_path: Path) -> None:
    series = Series(scan())
    write_series(tmp_path / "classic", series)
    path = write_enhanced(tmp_path / "enhanced", series)
    sources = read_only(tmp_path / "classic").sources
    assert [source and source.sop_uid for source in sources] == [
        f"{series.uid}.{z + 1}" for z in range(6)
    ]
    frames = pixel_array(path)
    for z, source in enumerate(read_only(tmp_path / "enhanced").sources):
        assert source is not None and source.is_multi_frame
        np.testing.assert_array_equal(frames[source.frame_number - 1], series.voxels[z])


def test_a_missing_slice_is_named_and_interpolated(tmp_path: Path) -> None:
    series = Series(scan())
    write_series(tmp_path, series, leave_out=[2])
    image = read_only(tmp_path)
    assert image.sources[2] is None
    assert "misses 1 slice, at 105.00 mm" in image.oddities[0].what  # 100 + 2 x 2.5
    between = (series.voxels[1].astype(float) + series.voxels[3]) / 2 - 1024
    np.testing.assert_allclose(image.array[0, 2], between, atol=0.5)
    np.testing.assert_allclose(image.grid.affine_ras_mm, series.affine_ras_mm(), atol=1e-6)


def test_slices_that_lie_twice_are_dropped_or_refused(tmp_path: Path) -> None:
    series = Series(scan())
    write_series(tmp_path / "a", series)
    again = Series(series.voxels, uid="1.2.3.5", changes={"SeriesInstanceUID": series.uid})
    write_series(tmp_path / "a", again, leave_out=[0, 1, 2, 4, 5])
    image = read_only(tmp_path / "a")
    assert image.grid.shape_vox[0] == 6
    assert "twice, at 107.50 mm" in image.oddities[0].what
    changed = Series(series.voxels + 1, uid="1.2.3.5", changes={"SeriesInstanceUID": series.uid})
    write_series(tmp_path / "b", series)
    write_series(tmp_path / "b", changed, leave_out=[0, 1, 2, 4, 5])
    [left_out] = survey_dicom([tmp_path / "b"]).left_out
    assert "different slices in one place, at 107.50 mm" in left_out.why


def test_variable_spacing_is_refused_by_name(tmp_path: Path) -> None:
    def moved(made: Any, z: int) -> None:
        position = made.ImagePositionPatient
        position[2] += 1.0 if z > 3 else 0.0

    [path, *_] = write_series(tmp_path, Series(scan()), per_slice=moved)
    with pytest.raises(AutosegError, match=r"2.5 to 3.5 mm apart .*variable spacing"):
        read_image(path)


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("TriggerTime", (0, 40.5)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (3, 4)),
        ("ContentTime", ("101500", "101600")),
        ("EchoTime", (4.6, 9.2)),
    ],
)
def test_volumes_of_one_place_are_told_apart(
    tmp_path: Path, tag: str, values: tuple[float | str, ...]
) -> None:
    scans = [scan(seed=seed) for seed in range(2)]
    for voxels, value, uid in zip(scans, values, ("1.2.3.4", "1.2.3.5"), strict=True):
        changes = {tag: value, "SeriesInstanceUID": "1.2.3.4"}
        write_series(tmp_path, Series(voxels, uid=uid, changes=changes))
    volumes = survey_dicom([tmp_path]).volumes
    assert [volume.stack.told_by.split()[0] for volume in volumes] == [tag, tag]
    for volume, voxels in zip(volumes, scans, strict=True):
        read = read_image(volume.path).array[0]
        np.testing.assert_array_equal(read, voxels.astype(np.float32) - 1024)


def test_directions_of_one_b_value_are_told_apart(tmp_path: Path) -> None:
    for index, b_value in enumerate((0.0, 800.0, 800.0, 800.0)):
        gradient = [float(index == axis) for axis in (1, 2, 3)]
        changes = {"DiffusionBValue": b_value, "DiffusionGradientOrientation": gradient}
        changes |= {"SeriesInstanceUID": "1.2.3.4"}
        write_series(tmp_path, Series(scan(seed=index), uid=f"1.2.3.{index}", changes=changes))
    found = [read_image(volume.path).array[0] for volume in survey_dicom([tmp_path]).volumes]
    expected = {(scan(seed=index).astype(np.float32) - 1024).tobytes() for index in range(4)}
    assert {array.tobytes() for array in found} == expected


def test_volumes_of_one_place_are_told_apart_though_one_lost_a_slice(tmp_path: Path) -> None:
    write_series(tmp_path, Series(scan(), changes={"EchoTime": 1.0}))
    changes = {"EchoTime": 2.0, "SeriesInstanceUID": "1.2.3.4"}
    write_series(tmp_path, Series(scan(), uid="1.2.3.5", changes=changes), leave_out=[3])
    volumes = survey_dicom([tmp_path]).volumes
    assert [len(volume.stack.present) for volume in volumes] == [6, 5]


@pytest.mark.parametrize(("name", "kind"), [("Float", np.float32), ("DoubleFloat", np.float64)])
def test_fractions_of_parametric_maps_are_kept(tmp_path: Path, name: str, kind: type) -> None:
    values: Any = np.random.default_rng(0).random((6, 8, 10)).astype(kind)

    def fractional(made: Any, z: int) -> None:
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del made[keyword]
        made.BitsAllocated, made.RescaleIntercept = 8 * values.itemsize, 0
        setattr(made, f"{name}PixelData", values[z].tobytes())

    write_series(tmp_path, Series(scan()), per_slice=fractional)
    np.testing.assert_array_equal(read_only(tmp_path).array[0], values.astype(np.float32))


def test_several_volumes_in_one_file_have_addresses(tmp_path: Path) -> None:
    voxels = scan((8, 5, 6))
    path = write_enhanced(tmp_path, Series(voxels), times=2)
    volumes = survey_dicom([tmp_path]).volumes
    assert {v.path.name for v in volumes} == {"enhanced", "enhanced#2"}
    parts = [read_image(volume.path).array[0] + 1024 for volume in volumes]
    np.testing.assert_array_equal(np.concatenate(parts), voxels)
    assert files_of(volumes[1].path) == (path,)
    with pytest.raises(AutosegError, match="holds 2 volumes"):
        stack_of(tmp_path / "enhanced#3")


def test_a_scale_of_each_slice_is_applied_and_philips_own_where_it_must(tmp_path: Path) -> None:
    voxels = scan((3, 4, 5))

    def scaled(made: Any, z: int) -> None:
        made.RescaleSlope, made.RescaleIntercept = z + 1, 0

    def philips(made: Any, z: int) -> None:
        scaled(made, z)
        made.add_new((0x2005, 0x0010), "LO", "Philips MR Imaging DD 001")
        made.add_new((0x2005, 0x100E), "FL", 0.5)

    write_series(tmp_path / "scaled", Series(voxels), per_slice=scaled)
    write_series(tmp_path / "philips", Series(voxels), per_slice=philips)
    factors = np.array([1, 2, 3], np.float32)[:, None, None]
    np.testing.assert_allclose(read_only(tmp_path / "scaled").array[0], voxels * factors)
    np.testing.assert_allclose(read_only(tmp_path / "philips").array[0], voxels / 0.5)


@pytest.mark.parametrize(
    ("dtype", "stored"), list(product(["int16", "uint16", "uint8", "int32"], [None, 7]))
)
def test_bits_that_do_not_count_are_left_out(
    tmp_path: Path, dtype: str, stored: int | None
) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 4, 5)).astype(dtype)
    changes = {"RescaleIntercept": 0} | ({"BitsStored": stored, "HighBit": 6} if stored else {})
    write_series(tmp_path, Series(voxels, changes=changes))
    expected = voxels.astype(np.int64)
    if stored:
        expected %= 2**stored
        if dtype.startswith("i"):
            expected = np.where(expected >= 2 ** (stored - 1), expected - 2**stored, expected)
    np.testing.assert_array_equal(read_only(tmp_path).array[0], expected)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_slices_are_decoded(tmp_path: Path, syntax: str) -> None:
    import pydicom.uid

    series = Series(scan((3, 64, 64)))
    for file in write_series(tmp_path, series):
        made = dcmread(file)
        made.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        made.save_as(file)
    np.testing.assert_array_equal(
        read_only(tmp_path).array[0], series.voxels.astype(np.float32) - 1024
    )


@pytest.mark.skipif(not ODD, reason="real data are not here")
def test_real_single_slices_are_decoded_as_pydicom_does() -> None:
    compared = 0
    for path in ODD:
        try:
            stack = stack_of(path)
            image = read_image(path)
        except AutosegError:
            continue
        if len(stack.slices) == 1 and len(stack.first.instance.frames) == 1:
            data = dcmread(path)
            slope, shift = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
            values = pixel_array(data, raw=True) * float(slope) + float(shift)
            np.testing.assert_allclose(image.array[0, 0], values, rtol=1e-6)
            compared += 1
    assert compared > 10


def test_a_slice_cut_short_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, Series(scan()))
    files[1].write_bytes(files[1].read_bytes()[:-20])
    with pytest.raises(AutosegError, match="is cut short"):
        read_image(files[0])


def test_any_file_of_a_series_stands_for_it(tmp_path: Path) -> None:
    files = write_series(tmp_path, Series(scan()))
    assert count_channels(files[3]) == 1
    assert count_values(files[3]) == 6 * 8 * 10
    assert set(files_of(files[3])) == set(files)


def test_nothing_of_a_person_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_series(tmp_path, Series(scan(), changes={"PatientComments": "PLANTED"}))
    with caplog.at_level(logging.DEBUG):
        read_only(tmp_path)
    assert "PLANTED" not in caplog.text and NAME not in caplog.text
