"""Prediction beside nnU-Net v2: the same weights, mirroring, scans and machine, whole processes.

    python -m benchmarks.prediction PEER_PYTHON FOLDER SHARED_DATA [--rounds 3] [--parts ...]

`hippocampus` are 40 scans with a trained model. `lung_ct` is a thorax CT, and `many_classes` a
synthetic CT of 512x512x100 voxels, with untrained networks of 8 features and 5 or 25 classes,
without mirroring. `huge` is one of 512x512x300 and 100 classes, within 8 GiB; nnU-Net is stopped
after `--patience` seconds there. Memory is the largest sum over all processes of what each holds
alone and its share of what several hold.

The floor is what the multiply-adds of all patches would take at the rate of a large matrix
product, in the precision in which that is fastest here. Of autoseg's seconds the rest are its start
(the same command, when all masks are there), and whatever else is slower than the floor.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from autoseg.checkpoint import ModelCard, build_network, read_card, save_model
from autoseg.dataset.labels import LabelScheme
from autoseg.device import choose_device, machine_of, precisions_to_try
from autoseg.geometry import resampled_shape
from autoseg.images.volume import read_image
from autoseg.inference.sliding_window import tile
from autoseg.interop.nnunet_export import export_models
from autoseg.interop.nnunet_models import import_models
from autoseg.machine import available_cores, cpu_flags
from autoseg.networks import family_of
from autoseg.planning.model_plan import SemanticPlan
from autoseg.planning.network_plan import StagePlan
from autoseg.planning.plan import Configuration
from benchmarks import processes

RESULTS = Path(__file__).parent / "results"
NOWHERE = {"nnUNet_raw": "", "nnUNet_preprocessed": "", "nnUNet_results": ""}
LIMIT_GIB = 8
TORCH_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MATRIX = 2048  # rows and columns


@dataclass(frozen=True, slots=True)
class Part:
    """Scans of one kind, and one model as each tool reads it."""

    name: str
    scans: Path
    ours: Path
    theirs: Path
    mirrored: bool
    limit_gib: float | None = None


def run(command: list[str], patience_s: float) -> dict[str, Any]:
    """Seconds and peak memory of a command with all its processes."""
    found = processes.run(command, NOWHERE, patience_s)
    ended = "done" if found.exit_code == 0 else f"failed ({found.exit_code})"
    return {
        "seconds": found.seconds,
        "peak_gib": found.peak_mb / 1024,
        "ended": "stopped" if found.stopped else ended,
    }


def hippocampus(folder: Path, shared: Path) -> Part:
    """The cases that the shared model held out."""
    trained = next((shared / "nnunet_model").rglob("plans.json")).parent
    (ours,) = import_models(trained, folder / "hippocampus_model")
    scans = folder / "hippocampus_scans"
    scans.mkdir(exist_ok=True)
    masks = [p.name for p in (trained / "fold_0" / "validation").glob("*.nii.gz")]
    if not masks:
        masks = [p.name for p in (shared / "nnunet_model").rglob("hippocampus_*.nii.gz")]
    for name in masks:
        scan = name.replace(".nii.gz", "_0000.nii.gz")
        if not (scans / scan).exists():
            (scans / scan).symlink_to((shared / "hippocampus" / "imagesTr" / scan).resolve())
    return Part("hippocampus", scans, ours, trained, mirrored=True)


def large(name: str, scan: Path, classes: int, template: Path, folder: Path) -> Part:
    """One large CT and an untrained network of 8 features, in both tools' files."""
    card = read_card(template)
    path = folder / name / "model.safetensors"
    configuration = _wide_configuration(card.configuration, classes)
    labels = LabelScheme(
        values=tuple(range(classes)),
        names=("background", *(f"class_{index}" for index in range(1, classes))),
    )
    torch.manual_seed(0)
    network = build_network(configuration.model)
    card = ModelCard(
        plan_name="wide",
        configuration=configuration,
        labels=labels,
        channel_names=card.channel_names,
        fold=0,
        trained_cases=0,
        trained_iterations=0,
        trained_seconds=0,
    )
    save_model(path, network, card)
    scans = folder / name / "scans"
    scans.mkdir(exist_ok=True)
    nib.save(nib.load(scan), scans / "case_0000.nii.gz")
    exported = folder / name / "nnunet"
    if not exported.exists():
        export_models([path], exported, "Dataset900_Wide")
    theirs = next(exported.rglob("plans.json")).parent
    return Part(name, scans, path, theirs, mirrored=False)


def _wide_configuration(template: Configuration, classes: int) -> Configuration:
    """Patches of 32x128x128 at 3 x 1.5 x 1.5 mm, so that logits are resampled, 4 resolutions."""
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    stages = tuple(
        StagePlan(
            features=8 * 2**level,
            kernel_size=(3, 3, 3),
            stride=stride,
            blocks=2,
            decoder_blocks=2,
        )
        for level, stride in enumerate(strides)
    )
    model = {
        "patch_size_vox": (32, 128, 128),
        "network": template.model.network.model_copy(update={"stages": stages}),
        "task": SemanticPlan(classes=classes),
    }
    inference = {"mirror_axes": (), "median_shape_vox": (100.0, 330.0, 330.0)}
    return template.model_copy(
        update={
            "grid": template.grid.model_copy(update={"target_spacing_mm": (3.0, 1.5, 1.5)}),
            "model": template.model.model_copy(update=model),
            "inference": template.inference.model_copy(update=inference),
        }
    )


def synthetic_ct(path: Path, slices: int) -> Path:
    """Smooth tissue in air, 512x512 pixels of 0.98 mm, 3 mm apart, as int16."""
    if not path.exists():
        rng = np.random.default_rng(0)
        coarse = rng.normal(0, 1, (64, 64, slices))
        tissue = ndimage.zoom(ndimage.gaussian_filter(coarse, 2), (8, 8, 1), order=1)
        x, y = np.meshgrid(*[np.linspace(-1, 1, 512)] * 2, indexing="ij")
        body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
        voxels = np.where(body[..., None], 40 + 400 * tissue, -1000).astype(np.int16)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.diag([0.98, 0.98, 3.0, 1.0])), path)
    return path


def ours(part: Part, output: Path, precision: str | None) -> list[str]:
    command = [sys.executable, "-m", "autoseg", "predict", str(part.scans), str(output)]
    command += ["--model", str(part.ours), "--overwrite", "--device", "cpu"]
    if precision is not None:
        command += ["--precision", precision]
    return command + (["--memory-gb", str(part.limit_gib)] if part.limit_gib else [])


def theirs(part: Part, output: Path, peer: Path) -> list[str]:
    tool = str(peer.parent / "nnUNetv2_predict_from_modelfolder")
    command = [tool, "-i", str(part.scans), "-o", str(output), "-m", str(part.theirs)]
    command += ["-f", "0", "-device", "cpu"]
    return command if part.mirrored else [*command, "--disable_tta"]


def agreement(a: Path, b: Path) -> dict[str, float]:
    """The share of equal voxels, and the lowest Dice of classes over 1,000 voxels, pooled."""
    equal, total = 0, 0
    counts: dict[int, list[int]] = {}
    for path in sorted(b.glob("*.nii.gz")):
        ours, theirs = (np.asarray(nib.load(f / path.name).dataobj).astype(int) for f in (a, b))
        equal += int(np.count_nonzero(ours == theirs))
        total += ours.size
        for label in np.union1d(np.unique(ours), np.unique(theirs)):
            sizes = counts.setdefault(int(label), [0, 0, 0])
            in_a, in_b = ours == label, theirs == label
            for index, mask in enumerate((in_a & in_b, in_a, in_b)):
                sizes[index] += int(np.count_nonzero(mask))
    dice = [2 * both / (x + y) for key, (both, x, y) in counts.items() if key and max(x, y) > 1000]
    return {"equal_voxels": equal / total, "lowest_dice": min(dice, default=1.0)}


def floor_seconds(part: Part, rate: float) -> float:
    """Multiply-adds of all patches over a rate of them."""
    plan = read_card(part.ours).configuration
    work = family_of(plan.model.network.kind).cost(plan.model).multiply_adds
    patches, mirrored = 0, 1 << len(plan.inference.mirror_axes)
    for path in part.scans.iterdir():
        grid = read_image(path).grid
        shape = resampled_shape(grid.shape_vox, grid.spacing_mm, plan.grid.spacing_mm((1, 1, 1)))
        tiling = tile(shape, plan.model.patch_box_vox, plan.inference.step_fraction)
        patches += prod(len(starts) for starts in tiling.starts)
    return work * patches * mirrored / rate


def matrix_rate(dtype: torch.dtype) -> float:
    """Multiply-adds a second of a matrix product, the best of several."""
    a, b = (torch.randn(MATRIX, MATRIX, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        best = max(best, MATRIX**3 / (time.perf_counter() - started))
    return best


def parts_of(seconds: float, start: float, floor: float) -> dict[str, float]:
    """Where autoseg's seconds went."""
    return {
        "floor_seconds": floor,
        "start_seconds": start,
        "other_seconds": seconds - start - floor,
        "share_of_floor": floor / seconds,
    }


def compare(part: Part, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Both tools in turn, as often as asked."""
    rounds: dict[str, list[dict[str, Any]]] = {}
    outputs = {name: options.folder / part.name / name for name in ("ours", "fp32", "theirs")}
    for index in range(1 if part.limit_gib else options.rounds):
        commands = {
            "autoseg": ours(part, outputs["ours"], None),
            "nnunetv2": theirs(part, outputs["theirs"], options.peer),
        }
        if index == 0 and part.limit_gib is None:
            commands["autoseg_fp32"] = ours(part, outputs["fp32"], "fp32")
        for name, command in commands.items():
            found = run(command, options.patience if name == "nnunetv2" else float("inf"))
            print(part.name, name, found, flush=True)
            rounds.setdefault(name, []).append(found)
    median = {
        name: {key: statistics.median(r[key] for r in runs) for key in ("seconds", "peak_gib")}
        for name, runs in rounds.items()
    }
    start = run([w for w in ours(part, outputs["ours"], None) if w != "--overwrite"], float("inf"))
    where = parts_of(median["autoseg"]["seconds"], start["seconds"], floor_seconds(part, rate))
    result = {"rounds": rounds, "median": median, **where}
    if all(r["ended"] == "done" for runs in rounds.values() for r in runs):
        a, b = median["autoseg"], median["nnunetv2"]
        result["times_faster"] = b["seconds"] / a["seconds"]
        result["share_of_memory"] = a["peak_gib"] / b["peak_gib"]
        result["agreement"] = agreement(outputs["ours"], outputs["theirs"])
        if "autoseg_fp32" in rounds:
            result["agreement_fp32"] = agreement(outputs["fp32"], outputs["theirs"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("folder", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=1800)
    every = ["hippocampus", "lung_ct", "many_classes", "huge"]
    parser.add_argument("--parts", nargs="+", default=every, choices=every)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    small = hippocampus(options.folder, options.shared)
    precisions = precisions_to_try(choose_device("cpu"))
    rates = {name: matrix_rate(TORCH_TYPES[name]) for name in precisions}
    print("multiply-adds a second:", rates, flush=True)
    path = RESULTS / "prediction.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    machine = machine_of(choose_device()).model_dump(mode="json") | {
        "amx": "amx_bf16" in cpu_flags(),
        "multiply_adds_per_s": rates,
        "cores": available_cores(),
    }
    for name in options.parts:
        if name == "hippocampus":
            part = small
        elif name == "lung_ct":
            scan = next((options.shared / "lung_ct").glob("*_0000.nii.gz"))
            part = large(name, scan, 5, small.ours, options.folder)
        else:
            slices, classes = (100, 25) if name == "many_classes" else (300, 100)
            scan = synthetic_ct(options.folder / f"ct_{slices}.nii.gz", slices)
            part = large(name, scan, classes, small.ours, options.folder)
        if name == "huge":
            part = Part(name, part.scans, part.ours, part.theirs, False, LIMIT_GIB)
        result[name] = {"machine": machine} | compare(part, options, max(rates.values()))
        shown = {k: v for k, v in result[name].items() if k not in ("machine", "rounds")}
        print(json.dumps(shown, indent=2))
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
