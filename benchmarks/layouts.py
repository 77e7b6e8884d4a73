"""Blocks that follow the spacing: how quickly boxes of a prepared scan are read.

    python -m benchmarks.layouts [--reads 40]

A made-up scan of 300x512x512 voxels is packed in cubes of voxels, whatever its spacing, and as
autoseg lays it out for the spacing that such boxes come with; random boxes are read from both in
turn. Every chunk was read, and so checked, before.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from autoseg.preprocessing.parts import PackedPart, Pieces, StoredArray, pack_array

RESULTS = Path(__file__).parent / "results"
SHAPE_VOX = (300, 512, 512)
CUBES_MM = (1.0, 1.0, 1.0)
KINDS = {  # box, and the spacing of a grid where patches are such boxes
    "slice, 2D": ((1, 512, 512), (0.8, 0.8)),
    "128x128x128, 1 mm": ((128, 128, 128), CUBES_MM),
    "16x256x256, 5x0.8x0.8 mm": ((16, 256, 256), (5.0, 0.8, 0.8)),
}


def made_up_scan() -> NDArray[np.float16]:
    """Smooth shapes and noise [channel, z, y, x]."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=[size // 16 + 1 for size in SHAPE_VOX]).astype(np.float32)
    smooth = zoom(coarse, 16, order=1)[tuple(slice(size) for size in SHAPE_VOX)]
    noise = rng.standard_normal(SHAPE_VOX, np.float32)
    scan: NDArray[np.float16] = (smooth + 0.1 * noise).astype(np.float16)[None]
    return scan


def stored(packed: PackedPart, path: Path) -> StoredArray:
    path.write_bytes(packed.content)
    array = StoredArray(
        Pieces.of(path, "image", packed.at(0), 0), packed.shape, np.dtype(packed.dtype)
    )
    array[:]
    return array


def read_ms(arrays: list[StoredArray], box_vox: tuple[int, ...], reads: int) -> list[float]:
    """Median milliseconds of a read from each array, in turn."""
    rng = np.random.default_rng(0)
    seconds: list[list[float]] = [[] for _ in arrays]
    for _ in range(reads):
        start = [int(rng.integers(s - b + 1)) for s, b in zip(SHAPE_VOX, box_vox, strict=True)]
        box = tuple(slice(a, a + b) for a, b in zip(start, box_vox, strict=True))
        for array, taken in zip(arrays, seconds, strict=True):
            began = time.perf_counter()
            array[:, *box]
            taken.append(time.perf_counter() - began)
    return [round(1e3 * statistics.median(taken), 2) for taken in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=40)
    options = parser.parse_args()
    scan = made_up_scan()
    table: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cubes = stored(pack_array(scan, CUBES_MM), Path(folder) / "cubes")
        for kind, (box_vox, spacing_mm) in KINDS.items():
            packed = pack_array(scan, spacing_mm)
            follows = stored(packed, Path(folder) / "follows")
            before, after = read_ms([cubes, follows], box_vox, options.reads)
            table[kind] = {
                "cubes_ms": before,
                "following_the_spacing_ms": after,
                "megabytes": round(len(packed.content) / 1e6, 1),
            }
            print(kind, table[kind], flush=True)
    (RESULTS / "layouts.json").write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
