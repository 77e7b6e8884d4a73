"""Where prepared scans could be kept: patch reads, size on disk, import time, cut-off writes.

    pip install zarr
    python -m benchmarks.stores PREPARED_FILE [--patches 200] [--patch 64 128 128]

PREPARED_FILE is a case that autoseg prepared; its image is stored in every way that is compared.
"Cold" drops the file from the page cache before each read (posix_fadvise), "warm" reads again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.preprocessing.parts import QUICK_TO_READ
from autoseg.preprocessing.store import open_case

RESULTS = Path(__file__).parent / "results"
CHUNK, BLOCK = 64, 32
SMALL = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1)
IMPORTS = {"blosc2 lz4": "blosc2", "blosc2 zstd": "blosc2", "zarr": "zarr", "npy": "numpy"}

Open = Callable[[Path], Any]
Write = Callable[[Path, NDArray[Any]], None]


def write_blosc2(path: Path, image: NDArray[Any], cparams: blosc2.CParams = SMALL) -> None:
    edges = [(1, *(min(e, s) for s in image.shape[1:])) for e in (CHUNK, BLOCK)]
    blosc2.asarray(
        image,
        chunks=edges[0],
        blocks=edges[1],
        urlpath=str(path),
        mode="w",
        cparams=cparams,
    )


def open_blosc2(path: Path) -> Any:
    return blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))


def write_zarr(path: Path, image: NDArray[Any]) -> None:
    import zarr

    chunks = (1, *(min(BLOCK, s) for s in image.shape[1:]))
    array = zarr.create_array(
        store=str(path),
        shape=image.shape,
        dtype=image.dtype,
        chunks=chunks,
        shards=(1, *(-(-s // c) * c for s, c in zip(image.shape[1:], chunks[1:], strict=True))),
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=1),
    )
    array[:] = image


def open_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(str(path), mode="r")


def write_npy(path: Path, image: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, image)


def open_npy(path: Path) -> Any:
    return np.load(path, mmap_mode="r")


STORES: dict[str, tuple[Write, Open]] = {
    "blosc2 lz4": (partial(write_blosc2, cparams=QUICK_TO_READ), open_blosc2),
    "blosc2 zstd": (write_blosc2, open_blosc2),
    "zarr": (write_zarr, open_zarr),
    "npy": (write_npy, open_npy),
}


def files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def drop_from_cache(path: Path) -> None:
    for file in files(path):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def patch_seconds(open_store: Open, path: Path, starts: NDArray[Any], patch: list[int]) -> float:
    """Median seconds of opening nothing and reading one patch of all channels."""
    array = open_store(path)
    seconds = []
    for start in starts:
        part = tuple(slice(int(a), int(a) + n) for a, n in zip(start, patch, strict=True))
        began = time.perf_counter()
        np.ascontiguousarray(array[:, *part]).astype(np.float32)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def import_seconds(module: str) -> float:
    """Seconds that importing a module takes, beyond an empty interpreter."""

    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return min(once(f"import {module}") for _ in range(3)) - min(once("") for _ in range(3))


def when_cut_off(open_store: Open, path: Path) -> str:
    """What happens to a reader when the last third of the largest file is missing."""
    largest = max(files(path), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size * 2 // 3])
    try:
        array = open_store(path)
        values = np.asarray(array[:])
    except Exception as error:
        return f"{type(error).__name__} at {'reading' if 'array' in locals() else 'opening'}"
    return "silent zeros" if not values[:, -1].any() else "silent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--patches", type=int, default=60)
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 128, 128])
    options = parser.parse_args()
    image = np.asarray(open_case(options.prepared).image[:])
    rng = np.random.default_rng(0)
    highest = np.array(image.shape[1:]) - options.patch
    starts = rng.integers(0, highest + 1, (options.patches, 3))
    table: dict[str, dict[str, Any]] = {}
    for dtype in (np.float32, np.float16):
        for name, (write, open_store) in STORES.items():
            with tempfile.TemporaryDirectory(dir=".") as folder:
                path = Path(folder) / name
                began = time.perf_counter()
                write(path, image.astype(dtype))
                written = time.perf_counter() - began
                cold = []
                for start in starts[:20]:
                    drop_from_cache(path)
                    cold.append(patch_seconds(open_store, path, start[None], options.patch))
                warm = patch_seconds(open_store, path, starts, options.patch)
                table[f"{name}, {np.dtype(dtype)}"] = {
                    "patches_per_second_warm": round(1 / warm, 1),
                    "patches_per_second_cold": round(1 / statistics.median(cold), 1),
                    "megabytes": round(sum(f.stat().st_size for f in files(path)) / 1e6, 1),
                    "write_seconds": round(written, 2),
                    "import_seconds": round(import_seconds(IMPORTS[name]), 2),
                    "when_cut_off": when_cut_off(open_store, path),
                }
    for name, row in table.items():
        print(f"{name:20}", row)
    content = {"shape": list(image.shape), "patch": options.patch, "stores": table}
    (RESULTS / "stores.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
