"""Files that are odd, and folders that hold others.

Covers: folders, opening, vectors.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRBigEndian

from autoseg.errors import AutosegError
from autoseg.images.dicom.folders import kinds_of
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.volume import read_image
from tests.dicom_series import Series, scan, write_series

NUCLEAR = "1.2.840.10008.5.1.4.1.1.20"


def read_only(folder: Path) -> NDArray[Any]:
    [volume] = survey_dicom([folder]).volumes
    array: NDArray[Any] = read_image(volume.path).array[0]
    return array


def without_preamble(path: Path, implicit: bool, little: bool) -> None:
    """Write a file anew as its data set alone, as archives of ACR-NEMA's time did."""
    found = dcmread(path)
    if not little:
        found.PixelData = np.frombuffer(found.PixelData, "<i2").astype(">i2").tobytes()
    found.preamble, found.file_meta = None, FileMetaDataset()
    encoding: dict[str, Any] = {"implicit_vr": implicit, "little_endian": little}
    dcmwrite(path, found, force_encoding=True, **encoding)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_files_without_preamble_are_read(tmp_path: Path, implicit: bool, little: bool) -> None:
    series = Series(scan())
    for path in write_series(tmp_path, series):
        without_preamble(path, implicit, little)
        assert path.read_bytes()[128:132] != b"DICM" and is_dicom(path)
    np.testing.assert_array_equal(read_only(tmp_path), series.voxels.astype(np.float32) - 1024)


def test_big_endian_is_read_as_simpleitk_reads_it(tmp_path: Path) -> None:
    files = write_series(tmp_path, Series(scan()))
    for path in files:
        found = dcmread(path)
        found.PixelData = np.frombuffer(found.PixelData, "<i2").astype(">i2").tobytes()
        found.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        encoding: dict[str, Any] = {"implicit_vr": False, "little_endian": False}
        dcmwrite(path, found, force_encoding=True, **encoding)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    second = sitk.GetArrayFromImage(sitk.ReadImage(names))
    np.testing.assert_array_equal(read_only(tmp_path), second)


@pytest.mark.parametrize(
    "start",
    [b"", b"\x08\0", b"GIF89a" * 30, b"MZ" + bytes(200), b"\x08\0\x05\0" + b"\xff" * 4, bytes(200)],
)
def test_other_files_are_not_taken_for_dicom(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "file").write_bytes(start)
    assert not is_dicom(tmp_path / "file")


def test_compressed_voxels_without_a_stated_syntax_are_refused(tmp_path: Path) -> None:
    """They would pass for voxels that are stored as they are."""
    from pydicom.uid import RLELossless

    [path] = write_series(tmp_path, Series(scan((1, 16, 16))))
    found = dcmread(path)
    found.compress(RLELossless, generate_instance_uid=False)
    found.save_as(path)
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"\x08\0\x08\0CS") :])
    [left_out] = survey_dicom([tmp_path]).left_out
    assert "does not state how it is encoded" in left_out.why


def write_nuclear(folder: Path, kind: str, step_mm: float, times: int = 1) -> np.ndarray:
    """A file of nuclear medicine, whose frames are slices by a vector: in reverse, here."""
    voxels = np.random.default_rng(0).integers(0, 99, (4 * times, 5, 6)).astype(np.uint16)

    def framed(made: FileDataset, z: int) -> None:
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleIntercept"):
            del made[name]
        place = Dataset()
        place.ImagePositionPatient, place.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
        made.DetectorInformationSequence = [place]
        made.SOPClassUID, made.Modality = NUCLEAR, "NM"
        made.ImageType = ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
        made.NumberOfFrames, made.SpacingBetweenSlices = len(voxels), step_mm
        made.SliceVector = [4, 3, 2, 1] * times
        made.TimeSlotVector = [time for time in range(1, times + 1) for _ in range(4)]
        made.PixelData = voxels.tobytes()

    write_series(folder, Series(voxels[:1], spacing_mm=(4.0, 3.0, 2.0)), per_slice=framed)
    return voxels


@pytest.mark.parametrize("step_mm", [4.0, -4.0])
def test_frames_of_a_nuclear_tomogram_are_slices(tmp_path: Path, step_mm: float) -> None:
    voxels = write_nuclear(tmp_path, "RECON TOMO", step_mm)
    [volume] = survey_dicom([tmp_path]).volumes
    image = read_image(volume.path)
    np.testing.assert_array_equal(image.array[0], voxels[::-1] if step_mm > 0 else voxels)
    lowest_mm = 3.0 + min(0.0, 3 * step_mm)  # PS3.3 C.8.4.15: against the normal where negative
    expected = np.array([[-2, 0, 0, -1], [0, -3, 0, -2], [0, 0, 4, lowest_mm], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(image.grid.affine_ras_mm, expected)


def test_gates_of_a_nuclear_tomogram_are_volumes_of_their_own(tmp_path: Path) -> None:
    voxels = write_nuclear(tmp_path, "RECON GATED TOMO", 4.0, times=2)
    volumes = survey_dicom([tmp_path]).volumes
    assert [volume.stack.told_by for volume in volumes] == ["TimeSlotVector 1", "TimeSlotVector 2"]
    second = read_image(volumes[1].path).array[0]
    np.testing.assert_array_equal(second, voxels[4:][::-1])


@pytest.mark.parametrize("kind", ["TOMO", "DYNAMIC", "WHOLE BODY"])
def test_frames_that_are_no_slices_are_left_out_with_a_word(tmp_path: Path, kind: str) -> None:
    """A cine of ultrasound, views of several detectors: no volume, and no scan for each frame."""
    write_nuclear(tmp_path, kind, 4.0)
    survey = survey_dicom([tmp_path])
    assert not survey.volumes
    assert "holds 4 frames that state no position" in survey.left_out[0].why
    [path] = tmp_path.iterdir()
    with pytest.raises(AutosegError, match="pictures over time"):
        read_image(path)


def test_other_files_and_links_are_told(tmp_path: Path) -> None:
    write_series(tmp_path / "pacs" / "a", Series(scan((1, 4, 4))))
    for name in ("README", "Thumbs.db", ".DS_Store", "Jane.Doe"):
        (tmp_path / "pacs" / name).write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pacs" / "link").symlink_to(tmp_path / "elsewhere")
    survey = survey_dicom([tmp_path / "pacs"])
    assert {path.name for path in survey.others} >= {"README", "Thumbs.db", ".DS_Store"}
    assert ["a link to a folder" in one.why for one in survey.left_out] == [True]


def test_kinds_of_files_do_not_tell_their_names() -> None:
    files = [Path("README"), Path("a.db"), Path("Muller.20200102"), Path("x.abcdefghijk")]
    assert kinds_of(files) == ".db, none"
