"""The tags of a TIFF file: what its pages hold, and whether all of it is there."""

import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

# Tags
SUBFILE_KIND, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, ORIENTATION, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT = 270, 274, 277, 338, 339
STRIPS, STRIP_SIZES, TILES, TILE_SIZES, PLANAR, PREDICTOR = 273, 279, 324, 325, 284, 317
# Their values
NO_SLICE = 0b101  # a smaller copy, a transparency mask
UNCOMPRESSED, DEFLATE = 1, (8, 32946)
UPRIGHT = 1
WHITE_IS_ZERO, GREY, RGB, PALETTE = 0, 1, 2, 3
ALPHA = (1, 2)
NUMBER_KINDS = {1: "u", 2: "i", 3: "f"}

EXPANSION_LIMIT = 100_000  # no blank picture is packed tighter than this

NUMBER_TYPES = {
    **{("u", bits): "u1" for bits in (1, 2, 4)},
    **{(kind, 8 * size): f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)},
    **{("f", 8 * size): f"f{size}" for size in (2, 4, 8)},
}


@dataclass(frozen=True, slots=True)
class Pixels:
    """What tags say of a page's pixels; all pages of a volume agree in this."""

    shape: tuple[int, ...]  # y, x, and the samples of a pixel when there are several
    dtype: np.dtype[Any]
    bits: int
    photometric: int
    is_tiled: bool
    extra_samples: tuple[int, ...]  # what the last samples of a pixel mean


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a TIFF file: its place among all pages, and where its bytes are."""

    index: int
    pixels: Pixels
    byte_order: Literal["<", ">"]
    is_slice: bool
    is_deflated: bool
    is_plain: bool  # its bytes, once inflated, are the pixels in order
    has_planes: bool  # first all of the first sample, then of the second
    chunks: tuple[tuple[int, int], ...]  # first byte and number of bytes
    description: str
    orientation: int
    tags_byte: int  # where its tags begin

    def read_plain(self, file: BinaryIO) -> NDArray[Any]:
        """The pixels of a plain page. Raises ValueError or zlib.error when they are damaged."""
        content = b"".join(_chunks(file, self))
        stored = self.pixels.dtype.newbyteorder(self.byte_order)
        if len(self.chunks) == 1:  # which may be padded
            content = content[: math.prod(self.pixels.shape) * stored.itemsize]
        numbers = np.frombuffer(content, stored)
        if not self.has_planes:
            return numbers.reshape(self.pixels.shape)
        y, x, sample = self.pixels.shape
        return np.moveaxis(numbers.reshape(sample, y, x), 0, -1)


def read_pages(path: Path) -> list[Page]:
    """The slices of a file, by their tags. Raises EOFError or ValueError where tags are damaged."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    pages: list[Page] = []
    starts: set[int] = set()
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that it skips: those needed are missed below
        start = file.read(8)
        if start[2:4] in (b"+\0", b"\0+"):  # BigTIFF
            if start.startswith(b"MM"):
                raise ValueError("it is a BigTIFF whose numbers begin with the high byte")
            start += file.read(8)
        tags = ImageFileDirectory_v2(start)
        while tags.next:
            if tags.next in starts:
                raise ValueError("its pages form a ring")
            page_start = tags.next
            starts.add(page_start)
            file.seek(page_start)
            tags.load(file)
            if tags.next == page_start:
                raise EOFError(f"it ends within the tags of page {len(starts)}")
            order: Literal["<", ">"] = ">" if start[:2] == b"MM" else "<"
            pages.append(_page(tags, len(starts) - 1, order, page_start))
    slices = [page for page in pages if page.is_slice]
    if not slices:
        raise ValueError("it has no pages")
    return slices


def _page(tags: Any, index: int, byte_order: Literal["<", ">"], tags_byte: int) -> Page:
    missing = [str(tag) for tag in (WIDTH, HEIGHT, PHOTOMETRIC) if tag not in tags]
    if missing:
        raise ValueError(f"page {index + 1} lacks the tags {', '.join(missing)}")
    samples = int(tags.get(SAMPLES, 1))
    bits = set(_numbers(tags, BITS)) or {1}
    kinds = {NUMBER_KINDS.get(code, "?") for code in _numbers(tags, SAMPLE_FORMAT) or (1,)}
    dtype = NUMBER_TYPES.get((min(kinds), min(bits)))
    if len(bits) > 1 or len(kinds) > 1 or dtype is None:
        raise ValueError(f"its pixels are of an unknown kind: {bits} bits")
    is_tiled = TILES in tags
    starts = _numbers(tags, TILES if is_tiled else STRIPS)
    sizes = _numbers(tags, TILE_SIZES if is_tiled else STRIP_SIZES)
    if len(sizes) != len(starts):
        raise ValueError(f"page {index + 1} does not say where each part of its pixels ends")
    shape = (int(tags[HEIGHT]), int(tags[WIDTH]), samples)
    pixels = Pixels(
        shape=shape if samples > 1 else shape[:2],
        dtype=np.dtype(dtype),
        bits=min(bits),
        photometric=int(tags[PHOTOMETRIC]),
        is_tiled=is_tiled,
        extra_samples=_numbers(tags, EXTRA_SAMPLES),
    )
    is_deflated = tags.get(COMPRESSION, UNCOMPRESSED) in DEFLATE
    return Page(
        index=index,
        pixels=pixels,
        byte_order=byte_order,
        is_slice=not int(tags.get(SUBFILE_KIND, 0)) & NO_SLICE,
        is_deflated=is_deflated,
        is_plain=(is_deflated or tags.get(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED)
        and not is_tiled
        and pixels.bits >= 8
        and pixels.photometric in (WHITE_IS_ZERO, GREY, RGB, PALETTE)
        and tags.get(PREDICTOR, 1) == 1,
        has_planes=samples > 1 and tags.get(PLANAR, 1) == 2,
        chunks=tuple(zip(starts, sizes, strict=True)),
        description=str(tags.get(DESCRIPTION, "")),
        orientation=int(tags.get(ORIENTATION, UPRIGHT)),
        tags_byte=tags_byte,
    )


def as_stored(content: bytearray, pages: Sequence[Page]) -> None:
    """Change the tags of a file so that no decoder turns or inverts what is stored."""
    is_big = bytes(content[2:4]) in (b"+\0", b"\0+")
    count_format, entry_bytes, value_byte = ("Q", 20, 12) if is_big else ("H", 12, 8)
    told = {ORIENTATION: UPRIGHT, PHOTOMETRIC: GREY}
    for page in pages:
        order = page.byte_order
        (count,) = struct.unpack_from(order + count_format, content, page.tags_byte)
        first = page.tags_byte + struct.calcsize(count_format)
        for entry in range(first, first + count * entry_bytes, entry_bytes):
            (tag,) = struct.unpack_from(order + "H", content, entry)
            if tag == ORIENTATION or (
                tag == PHOTOMETRIC and page.pixels.photometric == WHITE_IS_ZERO
            ):
                struct.pack_into(order + "H", content, entry + value_byte, told[tag])


def _numbers(tags: Any, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    return tuple(int(number) for number in (value if isinstance(value, tuple) else (value,)))


def check_bytes(path: Path, pages: Sequence[Page]) -> None:
    """Confirm that all pixels are there, and the checksums of those that others will decode.

    Raises EOFError or zlib.error. Neither SimpleITK nor pillow would say so.
    """
    size = path.stat().st_size
    promised = sum(math.prod(page.pixels.shape) * page.pixels.dtype.itemsize for page in pages)
    if promised > EXPANSION_LIMIT * size:  # before asking for that much memory
        raise EOFError(f"its tags promise {promised} bytes of pixels")
    with path.open("rb") as file:
        for page in pages:
            if any(start + length > size for start, length in page.chunks):
                raise EOFError(f"it ends within page {page.index + 1}")
            if page.is_deflated and not page.is_plain:
                for _ in _chunks(file, page):
                    pass


def _chunks(file: BinaryIO, page: Page) -> Iterator[bytes]:
    """The strips or tiles of a page, inflated. Raises zlib.error when a checksum is wrong."""
    for start, length in page.chunks:
        file.seek(start)
        content = file.read(length)
        yield zlib.decompress(content) if page.is_deflated and length else content
