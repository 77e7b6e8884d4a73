import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.images.formats import read_raw
from autoseg.images.volume import read_labels
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


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_an_orientation_tag_is_told_and_not_obeyed(
    tmp_path: Path, name: str, orientation: int
) -> None:
    picture = Image.fromarray(
        np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype("u1")
    )
    exif = Image.Exif()
    exif[274] = orientation
    picture.save(tmp_path / name, exif=exif)
    raw = read_raw(tmp_path / name)
    assert raw.array.shape == (1, 1, 32, 48)
    assert abs(raw.array[0, 0].astype(int) - np.asarray(picture)).max() < 20
    assert [oddity.kind for oddity in raw.oddities] == ["orientation_tag"]


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (0, 100)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(AutosegError, match="holds 2 pictures"):
        read_raw(tmp_path / "a.png")


def test_labels_in_grey_colours_are_one_channel_and_others_are_refused(tmp_path: Path) -> None:
    grey = RNG.integers(0, 3, (5, 6)).astype(np.uint8)
    colours = np.stack([grey] * 3, axis=-1)
    Image.fromarray(colours).save(tmp_path / "a.png")
    labels = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(labels.array[0], grey)
    assert [oddity.kind for oddity in labels.oddities] == ["photometric"]
    colours[0, 0] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(AutosegError, match=r"one number for each pixel.*3 channels \(colours"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_tones_of_few_bits_are_as_stored(tmp_path: Path, bits: int) -> None:
    pixels = RNG.integers(0, 2**bits, (5, 8)).astype(np.uint8)
    packed = np.packbits(
        np.unpackbits(pixels[..., None], axis=-1)[..., -bits:].reshape(5, -1), axis=1
    )
    lines = b"".join(b"\0" + line.tobytes() for line in packed)

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 5, bits, 0, 0, 0, 0))
    content = header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    raw = read_raw(tmp_path / "a.png")
    np.testing.assert_array_equal(raw.array[0, 0], pixels)
    assert [oddity.kind for oddity in raw.oddities] == ["photometric"]


def test_of_a_cameras_pictures_the_first_is_taken(tmp_path: Path) -> None:
    grey = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype("u1")
    first, preview = Image.fromarray(grey), Image.fromarray(grey[::4, ::4])
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    raw = read_raw(tmp_path / "a.jpg")
    assert abs(raw.array[0, 0].astype(int) - grey).max() < 20
    assert [oddity.kind for oddity in raw.oddities] == ["photometric"]
