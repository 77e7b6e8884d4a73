"""What decoding a batch costs the thread that feeds a GPU, by how blocks are decoded.

    python -m benchmarks.decoding FOLDER

A volume of 256x256x256 in half precision, smooth with noise, is compressed as prepared scans are;
batches of two boxes of 160x160x160, as augmentation needs for patches of 128x128x128, are read in a
second thread: by python-blosc2, by its own C library through ctypes, and from a raw memory map. The
first thread counts meanwhile how long it is held up: the longest and the summed gaps of a loop.
"""

import argparse
import ctypes
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE, BOX, BATCH, BATCHES = 256, 160, 2, 6
GAP_S = 1e-3  # a loop's step that takes longer was held up
C_LIBRARY = Path(blosc2.__file__).parent / "lib" / "libblosc2.so"
Start = tuple[int, int, int]
Read = Callable[[Start], NDArray[np.float16]]


def volume() -> NDArray[np.float16]:
    rng = np.random.default_rng(0)
    smooth = ndimage.zoom(rng.normal(size=(SIDE // 8,) * 3), 8, order=1)
    noise = rng.normal(scale=0.1, size=smooth.shape)
    return np.asarray((np.round((smooth + noise) * 256) / 256).astype(np.float16))


def by_python(path: Path) -> Read:
    array = blosc2.open(str(path), mode="r")

    def read(start: Start) -> NDArray[np.float16]:
        return np.asarray(array[tuple(slice(s, s + BOX) for s in start)])

    return read


def by_ctypes(path: Path) -> Read:
    """The same library, called without the interpreter's lock."""
    library = ctypes.CDLL(str(C_LIBRARY))
    library.blosc2_init()
    handle = ctypes.c_void_p()
    if library.b2nd_open(str(path).encode(), ctypes.byref(handle)):
        raise OSError(f"{path}: cannot be opened")
    three = ctypes.c_int64 * 3

    def read(start: Start) -> NDArray[np.float16]:
        found = np.empty((BOX,) * 3, np.float16)
        stop = three(*(s + BOX for s in start))
        buffer, size = found.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(found.nbytes)
        code = library.b2nd_get_slice_cbuffer(
            handle, three(*start), stop, buffer, three(*found.shape), size
        )
        if code:
            raise OSError(f"{path}: cannot be read ({code})")
        return found

    return read


def by_map(path: Path) -> Read:
    array = np.load(path, mmap_mode="r")

    def read(start: Start) -> NDArray[np.float16]:
        return np.ascontiguousarray(array[tuple(slice(s, s + BOX) for s in start)])

    return read


def measure(read: Read) -> dict[str, float]:
    """Processor time a batch alone; and with a busy first thread, what that one is held up."""
    rng = np.random.default_rng(1)
    starts = [tuple(rng.integers(0, SIDE - BOX, 3).tolist()) for _ in range(BATCH * BATCHES)]
    read((0, 0, 0))
    before = time.process_time()
    for start in starts:
        read(start)
    processor_s = (time.process_time() - before) / BATCHES
    thread = threading.Thread(target=lambda: [read(start) for start in starts])
    gaps = []
    thread.start()
    last = time.perf_counter()
    while thread.is_alive():
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    held = [gap for gap in gaps if gap > GAP_S] or [0.0]
    return {
        "processor_ms": 1000 * processor_s,
        "held_up_ms": 1000 * sum(held) / BATCHES,
        "longest_ms": 1000 * max(held),
        "median_ms": 1000 * statistics.median(held),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    packed, raw = folder / "volume.b2nd", folder / "volume.npy"
    values = volume()
    np.save(raw, values)
    blosc2.set_nthreads(1)
    blosc2.asarray(
        values, urlpath=str(packed), mode="w", chunks=(64,) * 3, blocks=(32,) * 3,
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1),
    )  # fmt: skip
    box = (slice(7, 7 + BOX),) * 3
    ways = {"python": by_python(packed), "ctypes": by_ctypes(packed), "map": by_map(raw)}
    for name, read in ways.items():
        assert np.array_equal(read((7, 7, 7)), values[box])
        found = {key: round(value, 1) for key, value in measure(read).items()}
        size_mib = (raw if name == "map" else packed).stat().st_size / 2**20
        print(name, found, f"{size_mib:.1f} MiB")


if __name__ == "__main__":
    main()
