"""A large scan with few and many classes, beside nnU-Net with the same weights and patches."""

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoseg.planning.plan import Configuration
from benchmarks.gpu.cases import scan_path
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import made_up, random_model, unet
from benchmarks.gpu.scans import predictor_of, segment

CLASSES, SMALL_CLASSES = (3, 25, 100), (3,)
KIB_PER_GIB = 2**20


def measure(bench: Bench) -> None:
    """Neither mirrors, and neither has to resample: nnU-Net's takes minutes for many classes."""
    image = np.load(scan_path(bench.scratch))
    side = 16 if bench.small else 128
    network = unet("plain_unet", (side,) * 3, 8 if bench.small else 32)
    for classes in SMALL_CLASSES if bench.small else CLASSES:
        plan = made_up(bench.plan()[1], network, (side,) * 3, classes)
        folder = bench.scratch / "predict" / str(classes)
        bench.note(**{f"{classes} classes": compare(bench, plan, folder, image)})


def compare(bench: Bench, plan: Configuration, folder: Path, image: Any) -> dict[str, Any]:
    model, exported = random_model(folder, plan)
    found: dict[str, Any] = {}
    masks = {}
    # Half precision is what nnU-Net computes in; random weights tell classes apart narrowly.
    others = ("fp16",) if bench.on_gpu else ()
    for precision in dict.fromkeys((bench.device.precision, *others)):
        device = replace(bench.device, precision=precision)
        predictor = predictor_of(model, device)
        segment(predictor, image[:, : plan.model.patch_size_vox[0]])  # finds the algorithms
        if bench.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        maps = segment(predictor, image)
        seconds, masks[precision] = time.perf_counter() - started, maps.classes
        found[precision] = {"seconds": round(seconds, 2), "warnings": maps.warnings, **memory()}
    del predictor
    if bench.on_gpu:
        torch.cuda.empty_cache()
    mask = folder / "theirs.npy"
    found["nnunetv2"] = bench.ask_peer("predict", exported, scan_path(bench.scratch), mask)
    if mask.exists():
        theirs = np.load(mask)
        found["same_labels"] = {p: float(np.mean(own == theirs)) for p, own in masks.items()}
    return found


def memory() -> dict[str, float]:
    """The largest of this process so far, and since the last reset on the GPU."""
    found = {"host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB}
    if torch.cuda.is_available():
        found["gpu_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return {name: round(value, 2) for name, value in found.items()}
