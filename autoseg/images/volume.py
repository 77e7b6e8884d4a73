"""Images in and out of files, with their place in space kept to the bit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import ImageOpener
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from autoseg.errors import AutosegError, FractionalLabelsError, NotFiniteError
from autoseg.geometry import Grid
from autoseg.images.formats import read_raw
from autoseg.images.nifti import NIFTI
from autoseg.images.raw import FrameSource, Oddity, RawImage
from autoseg.records import replacing

WRITTEN_ENDING = NIFTI.endings[0]  # masks and images go out as NIfTI
LONGEST_AXIS = 2**15 - 1  # of NIfTI-1
COLOURS = 3
SLAB_VOXELS = 2**20  # 8 MB while they are scaled
LABEL_TOLERANCE = 1e-3  # scaled labels rarely hit integers to the last bit


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels on a grid: `array` is [channel, z, y, x] for images, [z, y, x] for labels.

    `nifti_header` is the source's own header, so that a mask can be written with the same qform,
    sform, codes and units. `is_placed` is false where the file does not state where voxels lie, and
    `oddities` are what its reader had to decide. `sources` are what each slice along z came from,
    where a format keeps that.
    """

    array: NDArray[Any]
    grid: Grid
    nifti_header: Any
    is_placed: bool = True
    oddities: tuple[Oddity, ...] = ()
    sources: tuple[FrameSource | None, ...] = ()


def read_image(path: Path | str, finite: bool = True) -> Volume:
    """Read a scan as float32 [channel, z, y, x]; a 4D file gives several channels.

    Stored integers are scaled in float64 and then rounded. The peak of memory is the stored voxels
    and the float32 ones. Raises AutosegError when the file is absent, damaged or no image, and
    NotFiniteError when it holds NaN or infinity, unless `finite` is false.
    """
    path = Path(path)
    raw = read_raw(path)
    stored = raw.array
    if raw.palette is not None:
        stored = np.moveaxis(raw.palette[stored[0]], -1, 0)  # [colour, z, y, x]
    is_ready = stored.dtype == np.float32 and stored.flags.c_contiguous and not raw.is_scaled
    image = stored if is_ready else np.empty(stored.shape, np.float32)
    for slab in _slabs(stored.shape):
        if not is_ready:
            with np.errstate(over="ignore"):  # too large for float32: infinite, and refused below
                image[slab] = _scale(raw, stored[slab])
        may_be_infinite = finite and (raw.is_scaled or stored.dtype.kind == "f")
        if may_be_infinite and not np.isfinite(image[slab]).all():
            raise NotFiniteError(
                f"{path}: contains NaN or infinite voxels. Replace them, for example with the "
                "background's value."
            )
    return Volume(image, raw.grid, raw.nifti_header, raw.is_placed, raw.oddities, raw.sources)


def read_labels(path: Path | str) -> Volume:
    """Read a label map as integers [z, y, x], in the file's own type if that is one.

    Raises AutosegError when the file cannot be read or has channels, and FractionalLabelsError
    when it holds fractions.
    """
    path = Path(path)
    raw = _single_channel(path, read_raw(path))
    if raw.is_scaled or raw.array.dtype.kind not in "iu":
        labels = _whole_numbers(path, raw)
    else:
        labels = np.ascontiguousarray(raw.array, raw.array.dtype.newbyteorder("="))
    return Volume(labels[0], raw.grid, raw.nifti_header, raw.is_placed, raw.oddities, raw.sources)


def _single_channel(path: Path, raw: RawImage) -> RawImage:
    """A label map of one channel, or one that was saved in grey tones of several colours."""
    count = len(raw.array)
    if count == 1:
        return raw
    if count != COLOURS or not (raw.array == raw.array[:1]).all():
        picture = raw.array.shape[1] == 1
        raise AutosegError(
            f"{path}: a label map must have one number for each "
            f"{'pixel' if picture else 'voxel'}, but this file has {count} channels"
            f"{' (colours, if it is RGB)' if count == COLOURS else ''}. Save one "
            f"{'grey or palette picture' if picture else '3D volume'} of the classes' numbers."
        )
    what = "is a label map in colours that are all grey; their common value is taken."
    oddity = Oddity("photometric", what, "Save it in one channel.")
    return replace(raw, array=raw.array[:1], oddities=(*raw.oddities, oddity))


def write_labels(path: Path | str, labels: Volume) -> None:
    """Write an integer label map [z, y, x] as NIfTI, atomically.

    Affine, qform and sform with their codes, and units are those of its header, which is the
    source scan's; the data type is the smallest unsigned integer that holds every label.
    """
    assert labels.array.shape == labels.grid.shape_vox, (labels.array.shape, labels.grid)
    dtype = np.min_scalar_type(int(labels.array.max(initial=0)))
    header = labels.nifti_header.copy()
    header["cal_max"] = header["cal_min"] = 0
    header.set_intent("none")
    _write(Path(path), labels.array.astype(dtype, copy=False), header)


def write_image(path: Path, image: Volume) -> None:
    """Write one channel [z, y, x] as NIfTI in float32, atomically, placed as its header says."""
    assert image.array.shape == image.grid.shape_vox, (image.array.shape, image.grid)
    _write(path, image.array.astype(np.float32, copy=False), image.nifti_header.copy())


def _write(path: Path, array: NDArray[Any], header: Any) -> None:
    """Write voxels [z, y, x] with a header, whose transforms, codes and sizes stay untouched.

    A picture comes back as one, and what is too long for NIfTI-1 as NIfTI-2.
    """
    if max(array.shape) > LONGEST_AXIS and not isinstance(header, nib.Nifti2Header):
        header = _in_nifti2(header)
    is_picture = int(header["dim"][0]) == 2 and len(array) == 1
    header["dim"] = 1
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[:0:-1] if is_picture else array.shape[::-1])
    header["scl_slope"] = header["scl_inter"] = np.nan  # voxels are stored as they are
    header["vox_offset"] = 0  # after the header
    header["magic"] = header.single_magic
    stored = np.ascontiguousarray(array, header.get_data_dtype())  # in the header's byte order
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, ImageOpener(temporary, "wb") as stream:
        header.write_to(stream)
        stream.write(stored.reshape(-1).view(np.uint8).data)


def _in_nifti2(header: Any) -> Any:
    """A NIfTI-1 header's content as NIfTI-2, to the bit."""
    longer = nib.Nifti2Header()
    for name in set(header.keys()) & set(longer.keys()) - {"sizeof_hdr", "magic", "vox_offset"}:
        longer[name] = header[name]
    longer.extensions = header.extensions
    return longer


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, slice, slice]]:
    """Blocks that cover an array [channel, z, y, x], as indices."""
    channels, depth, height, width = shape
    planes = max(1, SLAB_VOXELS // (height * width))
    rows = max(1, SLAB_VOXELS // width)
    for channel in range(channels):
        for z in range(0, depth, planes):
            for y in range(0, height, rows):
                yield channel, slice(z, z + planes), slice(y, y + rows)


def _scale(raw: RawImage, stored: NDArray[Any]) -> NDArray[Any]:
    """Measured values of stored voxels: themselves, or float64."""
    if not raw.is_scaled:
        return stored
    scaled: NDArray[Any] = apply_read_scaling(stored, raw.slope, raw.intercept)
    return scaled


def _whole_numbers(path: Path, raw: RawImage) -> NDArray[np.int32]:
    """Measured values [channel, z, y, x] as integers, or FractionalLabelsError."""
    whole = np.empty(raw.array.shape, np.int32)
    for slab in _slabs(whole.shape):
        values = _scale(raw, raw.array[slab])
        rounded = np.rint(values)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            fits = (abs(values - rounded) <= LABEL_TOLERANCE) & (abs(rounded) < 2**31)
        if not fits.all():
            raise FractionalLabelsError(
                f"{path}: label values are not integers of 32 bits (for example "
                f"{float(values[~fits][0]):.8g}). Save the labels as integers."
            )
        whole[slab] = rounded
    return whole
