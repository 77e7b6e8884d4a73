"""How fast patches reach a training, and how long its thread is held up, beside nnU-Net's loader.

    python -m benchmarks.input_path FOLDER [--peer PEER_PYTHON] [--batches 100]

Two made-up data sets are written to FOLDER, 8 scans of 512x512x300 and 20 of 4 x 240x240x155, and
batches of two patches of 128x128x128 are read from them as a training on a GPU would: boxes as
large as rotation and scaling need, in memory that a GPU can copy from. A stand-in for the network
sleeps, so that processors are free for those that read; asking for a batch and giving it back is
what the thread is held up with. nnU-Net's loader reads the same voxels, stored as it stores them,
in processes that hand them over as it does.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.geometry import Box, Placement
from autoseg.planning.choices import augmentation_plan
from autoseg.planning.rules import load_rule_set
from autoseg.preprocessing.prepared_case import PreparedCase
from autoseg.preprocessing.store import open_case, write_case
from autoseg.training.prefetch import prefetch
from autoseg.training.readers import Readers
from autoseg.training.sampling import PatchSampler

RESULTS = Path(__file__).parent / "results"
PEER = Path(__file__).parent / "peer"
PATCH, BATCH = (128, 128, 128), 2
NETWORK_S = 0.05  # a step of a fast GPU
WARM_UP = 40  # every chunk is checked when it is first read


@dataclass(frozen=True, slots=True)
class Scans:
    """A made-up data set: how many scans of which size."""

    count: int
    channels: int
    shape_vox: tuple[int, int, int]


DATASETS = {"ct": Scans(8, 1, (300, 512, 512)), "mr": Scans(20, 4, (155, 240, 240))}


def make_image(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Smooth structures and noise, in steps as a scanner's whole numbers are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(shape[0], *(-(-size // 8) for size in shape[1:])))
    blocks = np.kron(coarse, np.ones((1, 8, 8, 8)))[:, *map(slice, shape[1:])]
    structures = ndimage.uniform_filter(blocks.astype(np.float32), (0, 5, 5, 5))
    noise = rng.normal(scale=0.1, size=shape).astype(np.float32)
    return np.asarray(np.round((structures + noise) * 256) / 256)


def make_cases(folder: Path, scans: Scans) -> None:
    """Store what is missing of a data set."""
    for number in range(scans.count):
        make_case(folder, scans, number)


def make_case(folder: Path, scans: Scans, number: int) -> None:
    """Store one of the scans, unless it is there."""
    path = folder / f"case_{number}.prepared"
    if path.exists():
        return
    image = make_image((scans.channels, *scans.shape_vox), number)
    label = (image[0] > 1).astype(np.uint8)
    found = np.argwhere(label)
    voxels = found[np.random.default_rng(number).choice(len(found), 10_000)]
    locations = {1: voxels.astype(np.uint16)}
    placement = as_it_is(scans.shape_vox)
    write_case(path, PreparedCase(image, label, None, locations, None, placement), (), 3)


def as_it_is(shape_vox: tuple[int, int, int]) -> Placement:
    """Of a scan that is on the plan's grid already."""
    spacing_mm = (1.0, 1.0, 1.0)
    return Placement(
        source_shape_vox=shape_vox,
        flipped_axes=(),
        axis_order=(0, 1, 2),
        crop=Box(start=(0, 0, 0), stop=shape_vox),
        resampled_shape_vox=shape_vox,
        source_spacing_mm=spacing_mm,
        target_spacing_mm=spacing_mm,
    )


def sampler_of(folder: Path) -> PatchSampler:
    rules = load_rule_set("nnunet")
    cases = {path.stem: open_case(path) for path in sorted(folder.glob("*.prepared"))}
    augmentation = augmentation_plan(rules.default("augmentation"), PATCH, (0, 1, 2))
    return PatchSampler(cases, PATCH, BATCH, rules.default("training"), augmentation, 0, "training")


@dataclass(slots=True)
class Timing:
    """Of each batch, what the training's thread was held up by; of all of them, the rest."""

    held_up_s: list[float]
    seconds: float
    processor_s: float

    def summary(self) -> dict[str, float]:
        count = len(self.held_up_s)
        return {
            "batches_per_s": round(count / self.seconds, 2),
            "processor_ms_per_batch": round(1000 * self.processor_s / count, 1),
            "held_up_ms_median": round(1000 * statistics.median(self.held_up_s), 2),
            "held_up_ms_95": round(1000 * float(np.percentile(self.held_up_s, 95)), 2),
        }


def processor_s() -> float:
    """Of this process, all its threads, and its children that are running."""
    children = Path("/proc/self/task").glob("*/children")
    running = [pid for listed in children for pid in listed.read_text().split()]
    ticks = sum(_ticks_of(pid) for pid in ("self", *running))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks_of(process: str) -> int:
    fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # in user code, and in the system


def time_batches(
    take: Callable[[], object], give_back: Callable[[], None], batches: int, network_s: float
) -> Timing:
    """Take batches with a pause between them, in which a network would work."""
    held_up, before = [], processor_s()
    started = time.perf_counter()
    for _ in range(batches):
        asked = time.perf_counter()
        take()
        give_back()
        held_up.append(time.perf_counter() - asked)
        time.sleep(network_s)
    return Timing(held_up, time.perf_counter() - started, processor_s() - before)


def read_by_processes(folder: Path, processes: int, batches: int, network_s: float) -> Timing:
    readers = Readers(sampler_of(folder), range(BATCH), itertools.count(), processes)
    for _ in range(WARM_UP):
        next(readers)
        readers.give_back()
    timing = time_batches(lambda: next(readers), readers.give_back, batches, network_s)
    readers.close()
    return timing


def read_by_threads(folder: Path, threads: int, batches: int, network_s: float) -> Timing:
    made = prefetch(sampler_of(folder).draw, itertools.count(), threads)
    for _ in range(WARM_UP):
        next(made)
    timing = time_batches(lambda: next(made), lambda: None, batches, network_s)
    made.close()
    return timing


WAYS = {"processes": read_by_processes, "threads": read_by_threads}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """As fast as they come, and with a network's pauses, for one and two readers."""
    found = {}
    for way, function in WAYS.items():
        for readers in (1, 2):
            for name, network_s in (("free", 0.0), ("network", NETWORK_S)):
                timing = function(folder, readers, options.batches, network_s)
                found[f"{way} {readers} {name}"] = timing.summary()
                print(f"{folder.name}: {way} {readers} {name}: {timing.summary()}", flush=True)
    return found


def measure_peer(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    script = PEER / "nnunet_loader.py"
    command = [options.peer, str(script), str(folder), str(options.batches), str(NETWORK_S)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, float]] = json.loads(said.splitlines()[-1])
    for name, summary in found.items():
        print(f"{folder.name}: nnunetv2 {name}: {summary}", flush=True)
    return found


def export_for_peer(folder: Path) -> None:
    """The same voxels as arrays, for the peer to store in its own way."""
    for path in sorted(folder.glob("*.prepared")):
        case = open_case(path)
        target = path.with_suffix(".npz")
        if not target.exists():
            image = case.image[:].astype(np.float32)
            voxels = np.array([case.class_locations[1][i] for i in range(1000)])
            np.savez(target, image=image, label=case.label[:], voxels=voxels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", help="Python of an environment with nnunetv2")
    parser.add_argument("--batches", type=int, default=100)
    options = parser.parse_args()
    results = {}
    for name, scans in DATASETS.items():
        folder = options.folder / name
        make_cases(folder, scans)
        results[name] = measure(folder, options)
        if options.peer:
            export_for_peer(folder)
            peer = measure_peer(folder, options)
            results[name] |= {f"nnunetv2 {way}": summary for way, summary in peer.items()}
    RESULTS.joinpath("input_path.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
