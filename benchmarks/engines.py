"""Labels of every engine and precision beside those of torch in single precision.

    python -m benchmarks.engines FOLDER IMPORTS SHARED_DATA [--minutes 9] [--only ...] [--cases 6]

IMPORTS is the folder of benchmarks.nnunet_import, whose models are used where it has trained one;
for the other kinds of scans autoseg trains one (FOLDER keeps it, and it is not repeated). Scans are
predicted that the models were not trained on, where there are several subjects, as planned and
without mirroring, which averages differences away. Dice is of each class over all scans; only
classes of more than 1,000 voxels count. Seconds are medians over the scans after the first, of
networks, sums and export.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.inputs import list_scans
from autoseg.dataset.reading import read_channels
from autoseg.device import Precision, choose_device, machine_of
from autoseg.inference.engines import EngineName
from autoseg.inference.predictor import Predictor
from benchmarks.nnunet_models import HELD_OUT_TUMOURS

RESULTS = Path(__file__).parent / "results"
WAYS: tuple[tuple[EngineName, Precision], ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "fp32"),
)
MIN_VOXELS = 1000
SPINAL_CORD = {
    "t1": ("t1/t1w.nii.gz", "t1/t1w_seg-manual.nii.gz"),
    "t2": ("t2/t2.nii.gz", "t2/t2_seg-manual.nii.gz"),
    "t2s": ("t2s/t2s.nii.gz", "t2s/t2s_seg.nii.gz"),
}
IMPORTED = {"hippocampus": "plain_3d", "sarcoma_ct": "sarcoma_ct", "lung_ct": "lung_ct"}
Pairs = dict[str, tuple[Path, Path]]


def hippocampus(shared: Path) -> Pairs:
    folder = shared / "hippocampus"
    masks = sorted(shared.glob("nnunet_model/*/*/fold_0/validation/*.nii.gz"))
    names = [path.name.removesuffix(".nii.gz") for path in masks]
    return {
        name: (folder / f"imagesTr/{name}_0000.nii.gz", folder / f"labelsTr/{name}.nii.gz")
        for name in names
    }


def sarcoma_ct(shared: Path) -> Pairs:
    patients = sorted(path for path in (shared / "sarcoma").iterdir() if path.is_dir())
    unseen = patients[-HELD_OUT_TUMOURS:]
    return {p.name: (p / "CT_image.nii.gz", p / "CT_mask.nii.gz") for p in unseen}


def nuclei(shared: Path) -> Pairs:
    images = sorted((shared / "nuclei" / "images").iterdir())
    return {image.stem: (image, shared / "nuclei" / "instances" / image.name) for image in images}


def spinal_cord(shared: Path) -> Pairs:
    folder = shared / "spinal_cord"
    return {name: (folder / scan, folder / mask) for name, (scan, mask) in SPINAL_CORD.items()}


def lung_ct(shared: Path) -> Pairs:
    scan = shared / "lung_ct" / "4DLung_P113_0000.nii.gz"
    return {"4DLung_P113": (scan, shared / "lung_ct" / "4DLung_P113.nii.gz")}


DATASETS = {
    "hippocampus": hippocampus,
    "sarcoma_ct": sarcoma_ct,
    "nuclei": nuclei,
    "spinal_cord": spinal_cord,
    "lung_ct": lung_ct,
}
ONE_SUBJECT = ("spinal_cord", "lung_ct")


def write_manifest(name: str, pairs: Pairs, unseen: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        {
            "case": case,
            "channels": {"image": str(scan)},
            "label": str(label),
            "group": "test" if case in unseen else "train",
        }
        for case, (scan, label) in pairs.items()
    ]
    content: dict[str, Any] = {"cases": cases}
    if name == "nuclei":
        content["instances"] = True
    (folder / "manifest.json").write_text(json.dumps(content))


def autoseg(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "autoseg", *map(str, words)], check=True)


def trained(name: str, pairs: Pairs, unseen: Sequence[str], options: argparse.Namespace) -> Path:
    """A model of other cases than the unseen ones, trained now unless it was before."""
    if name in IMPORTED:
        imports: Path = options.imports
        return next((imports / "imported" / IMPORTED[name] / "planned").iterdir())
    work: Path = options.folder / name / "work"
    models = "models/*/*/fold_all/model.safetensors"
    if not any(work.glob(models)):
        write_manifest(name, pairs, unseen, options.folder / name)
        autoseg("plan", options.folder / name, "--rules", "cpu", "--work", work)
        autoseg("train", "--fold", "all", "--minutes", options.minutes, "--work", work)
    return next(work.glob(models))


def without_mirroring(predictor: Predictor) -> Predictor:
    groups = [
        replace(group, ensemble=replace(group.ensemble, mirror_axes=()))
        for group in predictor.groups
    ]
    return replace(predictor, groups=tuple(groups))


def masks_of(predictor: Predictor, scans: Sequence[Path]) -> tuple[list[NDArray[np.uint8]], float]:
    """Labels of all scans, and seconds a scan."""
    masks, seconds = [], []
    for scan in scans:
        (case,) = list_scans([scan], len(predictor.card.channel_names)).cases
        ready = predictor.prepare(read_channels(case), case.case_id)
        start = time.perf_counter()
        masks.append(predictor.segment(ready).labels.array)
        seconds.append(time.perf_counter() - start)
    return masks, statistics.median(seconds[1:] or seconds)


def agreement(
    found: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.uint8]], value: int
) -> dict[str, Any]:
    """Dice of a class over all scans, and in how many voxels it was expected."""
    pairs = [(a == value, b == value) for a, b in zip(found, expected, strict=True)]
    both = sum(int((a & b).sum()) for a, b in pairs)
    ours, theirs = (sum(int(pair[index].sum()) for pair in pairs) for index in (0, 1))
    return {"voxels": theirs, "dice": 2 * both / (ours + theirs) if ours + theirs else None}


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every way beside the first, on one dataset."""
    pairs = DATASETS[name](options.shared)
    unseen = [] if name in ONE_SUBJECT else list(pairs)[-options.cases :]
    model = trained(name, pairs, unseen, options)
    scans = [pairs[case][0] for case in unseen or pairs]
    trained_by = "nnunetv2" if name in IMPORTED else f"autoseg, {options.minutes:g} minutes"
    found: dict[str, Any] = {"scans": len(scans), "trained_by": trained_by}
    for mirrored in (True, False):
        expected: list[NDArray[np.uint8]] = []
        for engine, precision in WAYS:
            predictor = Predictor.load([model], "cpu", precision, engine)
            if not mirrored:
                predictor = without_mirroring(predictor)
            masks, seconds = masks_of(predictor, scans)
            expected = expected or masks
            scheme = predictor.card.labels
            classes = {
                label: agreement(masks, expected, value)
                for label, value in zip(scheme.names[1:], scheme.values[1:], strict=True)
            }
            way = f"{engine} {precision}{'' if mirrored else ' without mirroring'}"
            found[way] = {"seconds_per_scan": seconds, "classes": classes}
            show(name, way, found[way])
    return found


def show(name: str, way: str, result: dict[str, Any]) -> None:
    dice = [c["dice"] for c in result["classes"].values() if c["voxels"] > MIN_VOXELS]
    lowest = f"{min(dice):.5f}" if dice else "no class of so many voxels"
    print(
        f"{name:12} {way:36}{result['seconds_per_scan']:8.2f} s  lowest Dice {lowest}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("imports", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--cases", type=int, default=6, help="how many scans are kept unseen")
    options = parser.parse_args()
    path = RESULTS / "engines.json"
    for name in options.only:
        found = compare(name, options)
        known = json.loads(path.read_text())["datasets"] if path.exists() else {}
        machine = machine_of(choose_device()).model_dump(mode="json")
        content = {"machine": machine, "datasets": known | {name: found}}
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
