"""Damaged image files of every format, read beside a second reader.

    python -m benchmarks.damaged_files [--count 2000] [--only NIfTI ...]

Good files of each format are cut short, flipped in a few bytes, emptied in a block, made longer, or
changed in a field of their header. Each must be read with the values that the second reader gives,
or with a warning, or be refused in words: never with another error, and never with other values and
no warning. The second readers are nibabel (NIfTI, MGH), pynrrd (NRRD), SimpleITK (MetaImage, whose
voxels autoseg reads itself), tifffile with imagecodecs (TIFF) and OpenCV (PNG, JPEG).
"""

import argparse
import contextlib
import gzip
import json
import os
import resource
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import tifffile
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.images.volume import read_image

RESULTS = Path(__file__).parent / "results" / "damaged_files.json"
MEMORY_BYTES = 8 * 2**30
HEADER_BYTES = 400  # where most changes are made, since there most can go wrong
SHAPE = (7, 6, 5)  # x, y, z
AT_ONCE = 50

Values = NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Kind:
    """A format: how good files are made, one of each name, and how another reader reads one."""

    make: Callable[[Path, np.random.Generator], list[Path]]
    read: Callable[[Path], Values]


def make_nifti(folder: Path, rng: np.random.Generator) -> list[Path]:
    paths = []
    for name, kind, dtype in (
        ("a.nii", nib.Nifti1Image, np.int16),
        ("b.nii.gz", nib.Nifti1Image, np.uint8),
        ("c.nii", nib.Nifti2Image, np.float32),
        ("d.nii.gz", nib.Nifti1Image, np.float32),
    ):
        image = kind(rng.integers(0, 100, SHAPE).astype(dtype), np.diag([-1, 0.7, 2, 1]))
        image.set_qform(image.affine, 1)
        image.header.set_xyzt_units("mm")
        if name == "a.nii":
            image.header.set_slope_inter(2, -3)
        nib.save(image, folder / name)
        paths.append(folder / name)
    return paths


def make_mgh(folder: Path, rng: np.random.Generator) -> list[Path]:
    paths = [folder / name for name in ("a.mgz", "b.mgh")]
    for path, dtype in zip(paths, (np.uint8, np.float32), strict=True):
        array = rng.integers(0, 100, SHAPE).astype(dtype)
        nib.save(nib.MGHImage(array, np.diag([1, 0.7, 2, 1])), path)
    return paths


def make_itk(folder: Path, rng: np.random.Generator, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        image = sitk.GetImageFromArray(rng.integers(0, 100, SHAPE).astype(np.int16))
        image.SetSpacing((1, 0.7, 2))
        sitk.WriteImage(image, str(folder / name), name.startswith("packed"))
    return [folder / name for name in names]


def make_tiff(folder: Path, rng: np.random.Generator) -> list[Path]:
    kinds: dict[str, tuple[DTypeLike, dict[str, Any]]] = {
        "plain.tif": (np.uint16, {}),
        "deflate.tif": (np.uint8, {"compression": "deflate"}),
        "tiled.tif": (np.uint8, {"tile": (16, 16), "compression": "deflate"}),
        "big.tif": (np.float32, {"bigtiff": True}),
    }
    for name, (dtype, options) in kinds.items():
        array = rng.integers(0, 100, (20, 24)).astype(dtype)
        tifffile.imwrite(folder / name, array, **options)
    packed = Image.fromarray(rng.integers(0, 100, (20, 24)).astype(np.uint8))
    packed.save(folder / "lzw.tif", compression="tiff_lzw")
    return [folder / name for name in (*kinds, "lzw.tif")]


def make_png(folder: Path, rng: np.random.Generator) -> list[Path]:
    grey = rng.integers(0, 256, (20, 24)).astype(np.uint8)
    deep = rng.integers(0, 2**16, (20, 24)).astype(np.uint16)
    pictures: dict[str, NDArray[Any]] = {
        "grey.png": grey,
        "deep.png": deep,
        "colour.png": np.stack([grey] * 3, -1),
    }
    for name, array in pictures.items():
        Image.fromarray(array).save(folder / name)
    return [folder / name for name in pictures]


def make_jpeg(folder: Path, rng: np.random.Generator) -> list[Path]:
    grey = np.kron(rng.integers(0, 256, (10, 12)), np.ones((4, 4))).astype(np.uint8)
    pictures = {"grey.jpg": grey, "colour.jpg": np.stack([grey, 255 - grey, grey], -1)}
    for name, array in pictures.items():
        Image.fromarray(array).save(folder / name, quality=90)
    return [folder / name for name in pictures]


def read_with_nibabel(path: Path) -> Values:
    """Values as [..., z, y, x]; colours are not made here."""
    image: Any = nib.load(path)
    return np.asarray(image.get_fdata(dtype=np.float32)).T


def read_with_pynrrd(path: Path) -> Values:
    import nrrd

    data, _ = nrrd.read(str(path), index_order="C")
    return np.asarray(data)


def read_with_simpleitk(path: Path) -> Values:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def read_with_tifffile(path: Path) -> Values:
    return np.asarray(tifffile.imread(path))


def read_with_opencv(path: Path) -> Values:
    import cv2

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    array: Values | None = cv2.imread(str(path), flags)
    if array is None:
        raise ValueError("OpenCV reads nothing")
    return array[..., ::-1] if array.ndim == 3 else array  # BGR


KINDS: dict[str, Kind] = {
    "NIfTI": Kind(make_nifti, read_with_nibabel),
    "MGH": Kind(make_mgh, read_with_nibabel),
    "NRRD": Kind(partial(make_itk, names=("a.nrrd", "packed.nrrd")), read_with_pynrrd),
    "MetaImage": Kind(partial(make_itk, names=("a.mha", "packed.mha")), read_with_simpleitk),
    "TIFF": Kind(make_tiff, read_with_tifffile),
    "PNG": Kind(make_png, read_with_opencv),
    "JPEG": Kind(make_jpeg, read_with_opencv),
}


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A file's content with one kind of damage; a gzip stream may be damaged within."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(damage(gzip.decompress(content), rng), mtime=0)
    changed = bytearray(content)
    start = int(rng.integers(len(changed)))
    where = min(len(changed), HEADER_BYTES) if rng.random() < 0.7 else len(changed)
    match int(rng.integers(6)):
        case 0:  # cut short
            del changed[start:]
        case 1:  # longer than it says
            changed += rng.bytes(int(rng.integers(1, 40)))
        case 2:  # a block of zeros
            changed[start : start + 16] = bytes(len(changed[start : start + 16]))
        case 3:  # bytes lost
            del changed[start : start + int(rng.integers(1, 9))]
        case 4:  # another number in a field of text
            digits = [i for i, byte in enumerate(changed[:where]) if chr(byte).isdigit()]
            if digits:
                changed[int(rng.choice(digits))] = ord(str(rng.integers(10)))
        case _:  # a few bytes flipped
            for place in rng.integers(0, where, int(rng.integers(1, 5))):
                changed[place] = int(rng.integers(256))
    return bytes(changed)


def outcome(path: Path, kind: Kind) -> str:
    """What came of reading a file with both, in words."""
    try:
        volume = read_image(path, finite=False)
    except AutosegError:
        return "refused"
    except Exception as error:  # what must never be
        return f"error {type(error).__name__}: {error}"[:120]
    found, warned = np.squeeze(np.moveaxis(volume.array, 0, -1)), bool(volume.oddities)
    with silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = kind.read(path)
        except Exception:  # of many kinds
            return "only autoseg reads it" + (", with a warning" if warned else "")
    assert expected is not None
    if agree(found, np.squeeze(expected)):
        return "equal"
    return "other values, with a warning" if warned else "OTHER VALUES, NO WARNING"


def agree(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two readings hold the same values, channels first or last, in single precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = expected.astype(np.float32)
    candidates = [expected]
    if expected.ndim > 2:
        candidates += [np.moveaxis(expected, 0, -1), expected[..., : found.shape[-1]]]
    return any(
        c.shape == found.shape and np.allclose(c, found, rtol=1e-5, atol=0, equal_nan=True)
        for c in candidates
    )


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing that libraries in C print is shown."""
    with Path(os.devnull).open("w") as nothing:
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def try_files(name: str, seeds: range, keep: Path | None = None) -> list[tuple[int, str, str]]:
    """Seed, file and outcome of damaged files of a format."""
    kind, found = KINDS[name], []
    with tempfile.TemporaryDirectory() as place, silence():
        for seed in seeds:
            rng = np.random.default_rng([seed, len(name)])
            good = kind.make(Path(place), np.random.default_rng(0))
            path = good[seed % len(good)]
            path.write_bytes(damage(path.read_bytes(), rng))
            result = outcome(path, kind)
            if keep is not None:
                (keep / f"{seed}_{path.name}").write_bytes(path.read_bytes())
            found.append((seed, path.name, result))
    return found


def limit_memory() -> None:
    """Let what asks for too much memory fail here, and not take the machine with it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def tally(name: str, count: int) -> list[tuple[int, str, str]]:
    """The outcomes of `count` damaged files; a reader that takes its process down is one, too."""
    found: list[tuple[int, str, str]] = []
    chunks = [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    while chunks:
        chunk = chunks.pop()
        with ProcessPoolExecutor(1, initializer=limit_memory) as pool:
            try:
                found += pool.submit(try_files, name, chunk).result()
            except BrokenProcessPool:
                if len(chunk) == 1:
                    found.append((chunk[0], "", "error: the process died"))
                else:
                    half = len(chunk) // 2
                    chunks += [chunk[:half], chunk[half:]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only:
        found = tally(name, options.count)
        counts = Counter(result.partition(":")[0] for _, _, result in found)
        results[name] = dict(sorted(counts.items()))
        print(name, json.dumps(results[name]))
        for seed, file, result in sorted(found):
            if result.startswith(("error", "OTHER")):
                print(f"  seed {seed} {file}: {result}")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
