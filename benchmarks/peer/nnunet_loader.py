"""Batches by nnU-Net v2's own loader. Belongs to input_path.py.

Called with the peer's Python: nnunet_loader.py FOLDER BATCHES NETWORK_S, where FOLDER holds .npz of
image [channel, z, y, x], label and voxels of class 1. Boxes are as large as its augmentation reads
them, and nothing is augmented. Prints a JSON line.
"""

import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

PATCH, BATCH, WARM_UP = (128, 128, 128), 2, 10
THIRTY_DEGREES = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def store(source: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in sorted(source.glob("*.npz")):
        target = folder / path.stem
        if target.with_suffix(".b2nd").exists():
            continue
        with np.load(path) as arrays:
            image, label, voxels = arrays["image"], arrays["label"], arrays["voxels"]
        blocks, chunks = comp_blosc2_params(image.shape, PATCH, image.itemsize)
        seg = label[None].astype(np.int8)
        blocks_seg, chunks_seg = comp_blosc2_params(image.shape, PATCH, seg.itemsize)
        locations = {1: np.concatenate([np.zeros((len(voxels), 1), int), voxels], 1)}
        nnUNetDatasetBlosc2.save_case(
            image, seg, {"class_locations": locations}, str(target),
            chunks=chunks, blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg,
        )  # fmt: skip


def processor_s() -> float:
    """As input_path.py counts it."""
    children = Path("/proc/self/task").glob("*/children")
    running = [pid for listed in children for pid in listed.read_text().split()]
    ticks = 0
    for process in ("self", *running):
        fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, processes: int, batches: int, network_s: float) -> dict[str, float]:
    labels = LabelManager({"background": 0, "organ": 1}, None)
    box = get_patch_size(PATCH, *[THIRTY_DEGREES] * 3, (0.7, 1.4))
    loader = nnUNetDataLoader(nnUNetDatasetBlosc2(str(folder)), BATCH, box, PATCH, labels, 0.33)
    ahead = NonDetMultiThreadedAugmenter(
        loader, None, processes, max(6, processes // 2), pin_memory=False, wait_time=0.002
    )
    for _ in range(WARM_UP):
        next(ahead)
    held_up, before = [], processor_s()
    started = time.perf_counter()
    for _ in range(batches):
        asked = time.perf_counter()
        next(ahead)
        held_up.append(time.perf_counter() - asked)
        time.sleep(network_s)
    seconds = time.perf_counter() - started
    used_s = processor_s() - before
    ahead._finish()
    return {
        "batches_per_s": round(batches / seconds, 2),
        "processor_ms_per_batch": round(1000 * used_s / batches, 1),
        "held_up_ms_median": round(1000 * statistics.median(held_up), 2),
        "held_up_ms_95": round(1000 * float(np.percentile(held_up, 95)), 2),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    source, batches, network_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    store(source, source / "nnunet")
    found = {
        f"{processes} {name}": measure(source / "nnunet", processes, batches, pause_s)
        for processes in (1, 2)
        for name, pause_s in (("free", 0.0), ("network", network_s))
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
