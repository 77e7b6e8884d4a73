"""Pictures, which are 2D: PNG, BMP and JPEG. What autoseg itself draws are figures."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.images.raw import Format, Oddity, RawImage, nifti_header_of, reading

PICTURE_ERRORS = (EOFError, KeyError, OSError, SyntaxError, ValueError)  # of pillow, when damaged
ORIENTATION, UPRIGHT = 274, 1  # a tag of EXIF, and its usual value
WITH_PREVIEWS = "MPO"  # pillow's name for what cameras write into a JPEG
SPREAD = {2: 85, 4: 17}  # by how much pillow multiplies grey tones of so many bits
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH, PNG_COLOUR_TYPE = 24, 25  # bytes of a PNG file
PNG_GREY, PNG_RGB, PNG_GREY_ALPHA = 0, 2, 4  # colour types


def read_picture(path: Path) -> RawImage:
    """Read a 2D picture as [channel, 1, y, x], its pixels 1 mm wide whatever dpi it states.

    Colours are channels, alpha is dropped. Of a palette picture the array holds the indices, which
    is how label pictures are saved. Pixels are as stored, whatever a tag says of turning them.
    """
    oddities = []
    with reading(path, "a picture", PICTURE_ERRORS), opened_picture(path) as picture:
        picture.load()  # and check all of it
        turned = int(picture.getexif().get(ORIENTATION, UPRIGHT))
        if turned != UPRIGHT:
            oddities.append(not_turned(turned))
        oddities += _of_several(path, picture)
        palette = _palette(picture)
        array = _channels(picture) if palette is None else np.array(picture)[None]
    bits, colours = _png_kind(path) or (8, PNG_RGB)
    if bits == 16 and colours != PNG_GREY:  # pillow cuts them to 8 bits
        array = _read_deep_png(path, colours)
    if bits in SPREAD and colours == PNG_GREY:
        array = array // SPREAD[bits]
        what = f"has {bits} bits a pixel; its numbers are taken as they are stored, while others "
        what += "spread them over 0 to 255."
        oddities.append(Oddity("photometric", what, "Save it with 8 bits a pixel."))
    channel, y, x = array.shape
    return RawImage(
        array.reshape(channel, 1, y, x),
        Grid((1, y, x), np.eye(4)),
        nifti_header_of(np.eye(4), axes=2),
        palette=palette,
        oddities=tuple(oddities),
    )


def _of_several(path: Path, picture: Any) -> list[Oddity]:
    """What to tell of a camera's previews; an animation is refused."""
    count = getattr(picture, "n_frames", 1)
    if count > 1 and picture.format != WITH_PREVIEWS:
        raise AutosegError(
            f"{path}: holds {count} pictures, an animation. Save each as a file of its own, or "
            "slices of one volume as TIFF or NIfTI."
        )
    if count == 1:
        return []
    what = f"holds {count} pictures, as cameras write them; the first is taken."
    return [Oddity("photometric", what, "Save it with one picture.")]


def not_turned(orientation: int) -> Oddity:
    """What to tell of a tag that viewers turn or mirror a picture by."""
    what = f"has an orientation tag ({orientation}) by which viewers turn it; its pixels are taken "
    what += "as they are stored."
    fix = "If its label was drawn on the turned picture, save it turned, without the tag."
    return Oddity("orientation_tag", what, fix)


@contextmanager
def opened_picture(path: Path) -> Iterator[Any]:
    """A picture as pillow opens it, however many pixels it has below pillow's limit."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except Image.DecompressionBombError as error:
        raise AutosegError(
            f"{path}: is too large a picture ({error}). Cut it into tiles."
        ) from None


def _palette(picture: Any) -> NDArray[np.uint8] | None:
    """The colours of a palette picture as [index, RGB]; indices that it lacks are black."""
    if picture.mode != "P":
        return None
    stored = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(stored)] = stored
    return palette


def _channels(picture: Any) -> NDArray[Any]:
    """The pixels as [channel, y, x], without alpha; of two tones they are 0 and 1."""
    pixels = np.array(picture.convert("RGB") if picture.mode == "CMYK" else picture)
    if picture.mode in ("LA", "RGBA"):
        pixels = pixels[..., :-1]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]


def _png_kind(path: Path) -> tuple[int, int] | None:
    """Bits per channel and colour type, when a file is a PNG, whatever its name says."""
    with path.open("rb") as file:
        start = file.read(PNG_COLOUR_TYPE + 1)
    return (start[PNG_DEPTH], start[PNG_COLOUR_TYPE]) if start.startswith(PNG_MAGIC) else None


def _read_deep_png(path: Path, colours: int) -> NDArray[Any]:
    import SimpleITK as sitk  # noqa: N813

    if colours == PNG_GREY_ALPHA:
        raise AutosegError(
            f"{path}: is a picture of grey and alpha with 16 bits, which neither pillow nor "
            "SimpleITK reads. Save it without alpha."
        )
    with reading(path, "a picture", (RuntimeError,)):
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # [y, x, colour]
    return np.moveaxis(pixels[..., :3], -1, 0)


PICTURES = Format("pictures", endings=(".png", ".bmp", ".jpg", ".jpeg"), read=read_picture)
