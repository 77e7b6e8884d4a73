"""Files of every format, odd or not, and what is to become of them."""

import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from tests.images.made import COLOURS, OBLIQUE, SCAN, cut, itk_image, save_nifti, save_tiff

Outcome = Literal["read", "warned", "refused"]
META = "NDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nOffset = 0 0 0\n"
NRRD = (
    "NRRD0004\ntype: int16\ndimension: 3\nsizes: 6 5 4\nendian: little\n"
    "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
)
STORED = SCAN.astype("<i2").tobytes()
GREY = np.ascontiguousarray(SCAN[0].astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of file, how one is made in a folder, and what `check` is to say of it."""

    room: str
    what: str
    make: Callable[[Path], Path]
    outcome: Outcome


def nifti(**fields: Any) -> Callable[[Path], Path]:
    return lambda folder: save_nifti(folder / "a.nii", SCAN.T, **fields)


def nifti_of(array: Any, name: str = "a.nii") -> Callable[[Path], Path]:
    return lambda folder: save_nifti(folder / name, array)


def longer(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(path.read_bytes() + b"more than the header says")
        return path

    return made


def shorter(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: cut(make(folder), 0.7)


def renamed(make: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    return lambda folder: make(folder).rename(folder / name)


def packed_nifti(folder: Path) -> Path:
    return save_nifti(folder / "a.nii.gz", SCAN.T)


def wrong_checksum(folder: Path) -> Path:
    path = packed_nifti(folder)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    return path


def two_files(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(SCAN.T, OBLIQUE), folder / "a.img")
    return (folder / "a.hdr").rename(folder / "a.nii")


def mgh(placed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        nib.save(nib.MGHImage(SCAN.T.astype(np.float32), OBLIQUE), folder / "a.mgh")
        content = bytearray((folder / "a.mgh").read_bytes())
        content[28:30] = b"\0\1" if placed else b"\0\0"
        (folder / "a.mgh").write_bytes(content)
        return folder / "a.mgh"

    return make


def itk(name: str, array: Any = SCAN, packed: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = itk_image(array) if array.ndim == 3 else sitk.GetImageFromArray(array)
        sitk.WriteImage(image, str(folder / name), packed)
        return folder / name

    return make


def text(name: str, header: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(header.encode() + content)
        return folder / name

    return make


def listed(name: str, header: str, count: int = 4) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for index in range(count):
            content = SCAN[index].astype("<i2").tobytes()
            (folder / f"s{index}.raw").write_bytes(content)
        (folder / name).write_text(header)
        return folder / name

    return make


def no_voxels(folder: Path) -> Path:
    path = itk("a.mhd")(folder)
    (folder / "a.raw").unlink()
    return path


def tiff(array: Any = GREY, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: save_tiff(folder / "a.tif", array, **options)


def with_spacing(make: Callable[[Path], Path], spacing: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / "a.json").write_text(spacing)
        return make(folder)

    return made


def pages_of_two_sizes(folder: Path) -> Path:
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:-1])]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    return folder / "a.tif"


def picture(name: str, image: Image.Image, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image.save(folder / name, **options)
        return folder / name

    return make


def turned_exif() -> Any:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def rows_of_nifti() -> Iterator[Row]:
    def row(what: str, make: Callable[[Path], Path], outcome: Outcome) -> Row:
        return Row("NIfTI", what, make, outcome)

    yield row("NIfTI-1, compressed or not, whatever its name says of that", packed_nifti, "read")
    yield row("NIfTI-1 of an ending in capitals", renamed(nifti(), "A.NII"), "read")
    yield row("four axes: the last holds channels", nifti_of(np.stack([SCAN.T] * 2, -1)), "read")
    yield row("a picture of two axes", nifti_of(SCAN[0].T), "read")
    yield row("five axes of several voxels", nifti_of(np.zeros((3, 3, 3, 2, 2), "i2")), "refused")
    yield row("complex numbers", nifti_of(SCAN.T.astype(np.complex64)), "refused")
    yield row("NaN or infinity", nifti_of(np.full((3, 3, 3), np.nan, "f4")), "refused")
    yield row("lengths in metres or microns: read in mm", nifti(xyzt_units=1), "warned")
    yield row(
        "qform and sform that disagree: the sform counts",
        nifti(qform_code=1, qoffset_x=99),
        "warned",
    )
    yield row("neither: higher x is taken for left", nifti(qform_code=0, sform_code=0), "warned")
    codes = {"sform_code": 0, "qform_code": 1}
    half_turn = codes | {"quatern_b": 1.0000002, "quatern_c": 0, "quatern_d": 0}
    yield row("a quaternion rounded above 1: half a turn", nifti(**half_turn), "read")
    bad = codes | {"quatern_b": 2}
    yield row("a quaternion that is no rotation: half a turn", nifti(**bad), "warned")
    yield row(
        "negative voxel sizes: signs are left out", nifti(pixdim=[1, -1, 1, 1] + [0] * 4), "warned"
    )
    yield row("a code of a transform that means nothing", nifti(sform_code=77), "warned")
    yield row("an affine in which voxels have no volume", nifti(srow_x=0), "refused")
    yield row("voxels that begin within the header: they do not", nifti(vox_offset=0), "warned")
    yield row("a slope of 0 or NaN: none", nifti(scl_slope=0), "read")
    yield row("an infinite slope: none", nifti(scl_slope=np.inf), "warned")
    yield row("bytes behind the voxels", longer(nifti()), "warned")
    yield row("bytes behind the gzip stream", longer(packed_nifti), "warned")
    yield row("cut short", shorter(nifti()), "refused")
    yield row("a wrong checksum", wrong_checksum, "refused")
    yield row("a header whose voxels are in a .img file", two_files, "refused")


def rows_of_itk() -> Iterator[Row]:
    def row(room: str, what: str, make: Callable[[Path], Path], outcome: Outcome) -> Row:
        return Row(room, what, make, outcome)

    yield row("MGH", ".mgh and .mgz; frames are channels", mgh(placed=True), "read")
    yield row("MGH", "without a matrix: placed as FreeSurfer does", mgh(placed=False), "warned")
    yield row("NRRD", "raw or gzip, voxels within or beside", itk("a.nrrd", packed=True), "read")
    pattern = f"{NRRD}encoding: raw\ndata file: s%d.raw 0 3 1\n"
    yield row(
        "NRRD", "a file for each slice, counted up or down", listed("a.nrrd", pattern), "read"
    )
    yield row("NRRD", "fewer files than it names", listed("a.nrrd", pattern, 3), "refused")
    skipping = text("a.nrrd", f"{NRRD}encoding: raw\nbyte skip: 3\n\n", b"abc" + STORED)
    yield row("NRRD", "lines or bytes to skip", skipping, "read")
    numbers = " ".join(map(str, SCAN.ravel())).encode()
    yield row(
        "NRRD", "numbers as text", text("a.nrrd", f"{NRRD}encoding: ascii\n\n", numbers), "read"
    )
    bzip2 = text("a.nrrd", f"{NRRD}encoding: bzip2\n\n", bz2.compress(STORED))
    yield row("NRRD", "bzip2", bzip2, "refused")
    yield row("NRRD", "bytes behind the voxels", longer(itk("a.nrrd")), "warned")
    yield row("NRRD", "cut short", shorter(itk("a.nrrd")), "refused")
    yield row("MetaImage", ".mha, and .mhd with voxels beside", itk("a.mhd"), "read")
    yield row("MetaImage", "an ending in capitals", renamed(itk("a.mha"), "A.MHA"), "read")
    yield row("MetaImage", "voxels that are not there", no_voxels, "refused")
    files = f"{META}ElementDataFile = LIST\n" + "\n".join(f"s{index}.raw" for index in range(4))
    yield row("MetaImage", "a list whose last line has no end", listed("a.mhd", files), "read")
    short = listed("a.mhd", files.rpartition("\n")[0], 3)
    yield row("MetaImage", "a list of too few slices", short, "refused")
    head = META + "CompressedData = True\nElementDataFile = LOCAL\n"
    unsized = text("a.mha", head, zlib.compress(STORED))
    yield row("MetaImage", "a compressed size that is missing or wrong", unsized, "warned")
    yield row(
        "MetaImage", "cut short, or a wrong checksum", shorter(itk("a.mha", packed=True)), "refused"
    )
    yield row("MetaImage", "complex numbers", itk("a.nrrd", np.zeros((3, 3), "c8")), "refused")


def rows_of_pictures() -> Iterator[Row]:
    def row(room: str, what: str, make: Callable[[Path], Path], outcome: Outcome) -> Row:
        return Row(room, what, make, outcome)

    spacing = '{"spacing": [3, 0.7, 0.5]}'
    yield row("TIFF", "a picture of numbers of any size", tiff(), "read")
    yield row(
        "TIFF", "LZW", picture("a.tif", Image.fromarray(GREY), compression="tiff_lzw"), "read"
    )
    yield row("TIFF", "pages with their spacing beside", with_spacing(tiff(SCAN), spacing), "read")
    yield row("TIFF", "pages without their spacing", tiff(SCAN), "refused")
    yield row(
        "TIFF", "pages that differ in size", with_spacing(pages_of_two_sizes, spacing), "refused"
    )
    turned = tiff(extratags=[(274, 3, 1, 3, True)])
    yield row("TIFF", "an orientation tag: not obeyed, in no packing", turned, "warned")
    white = tiff(photometric="miniswhite")
    yield row("TIFF", "0 as white: numbers as stored, in any packing", white, "warned")
    yield row("TIFF", "BigTIFF", tiff(bigtiff=True), "read")
    high = tiff(bigtiff=True, byteorder=">")
    yield row("TIFF", "BigTIFF whose numbers begin with the high byte", high, "refused")
    yield row("TIFF", "cut short", shorter(tiff()), "refused")
    colours = Image.fromarray(COLOURS)
    yield row("pictures", "PNG, BMP and JPEG in grey or colours", picture("a.png", colours), "read")
    yield row(
        "pictures",
        "a palette: its colours, or as a label its indices",
        picture("a.png", colours.convert("P")),
        "read",
    )
    yield row("pictures", "alpha: dropped", picture("a.png", colours.convert("RGBA")), "read")
    exif = picture("a.jpg", colours, exif=turned_exif())
    yield row("pictures", "an orientation tag (EXIF): not obeyed", exif, "warned")
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (0, 100)]
    animation = picture("a.png", frames[0], save_all=True, append_images=frames[1:])
    yield row("pictures", "an animation", animation, "refused")
    yield row("pictures", "cut short", shorter(picture("a.png", colours)), "refused")
