"""Masks of imported nnU-Net v2 models against the masks that nnU-Net makes with them itself.

    python -m benchmarks.nnunet_import PEER_PYTHON FOLDER SHARED_DATA [--only plain_3d ...]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1. It trains every kind of model
for a few minutes (FOLDER keeps them, and they are not repeated) and predicts with it, at the
spacing it was planned for and at another, so that scans and logits are really resampled. autoseg
imports the same folders. Over all scans each class must reach a Dice of 0.999, in none may a class
be lost, and a voxel that differs must be a near-tie between labels, or equal where autoseg sums
logits in float16 as nnU-Net does, by nnU-Net's mask of a cascade's first stage: at the edges of a
scan weights are so small that little is left of a logit.
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.dataset.inputs import list_scans
from autoseg.dataset.reading import read_channels
from autoseg.device import choose_device, machine_of
from autoseg.geometry import same_space
from autoseg.images.volume import Volume, read_labels
from autoseg.inference import models
from autoseg.inference.maps import RequestedMaps
from autoseg.inference.merging import DenseSums
from autoseg.inference.predictor import Predictor
from autoseg.inference.whole_scan import WholeScan
from autoseg.interop.nnunet_models import import_models
from autoseg.machine import available_cores
from autoseg.preprocessing.placing import place_mask
from benchmarks.nnunet_models import BRIEF, make_dataset

RESULTS = Path(__file__).parent / "results"
PEER = Path(__file__).parent / "peer"
MIN_DICE, NEAR_TIE = 0.999, 0.05


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained, and the other spacing that it is made to predict at.

    `stages` are configurations, trained one after the other unless they are already; the last one's
    masks are compared.
    """

    dataset: str
    stages: tuple[str, ...]
    other_spacing_mm: tuple[tuple[float, ...], ...]  # of each stage
    iterations: int  # of each stage's three epochs; 0 is the shared model, trained for 1,250 in all
    fold: int | str = 0
    oversampling: float = 1.0  # so that every class is found after so few
    scans: str = ""  # another dataset, whose scans are predicted


HIPPOCAMPUS = "Dataset004_Hippocampus"
LOWRES, CASCADE = "3d_lowres", "3d_cascade_fullres"
MODELS = {
    "plain_3d": Model(HIPPOCAMPUS, ("3d_fullres",), ((1.4, 0.8, 1.2),), 0),
    "residual_3d": Model(HIPPOCAMPUS, ("3d_residual",), ((1.4, 0.8, 1.2),), 500),
    "plain_2d": Model(HIPPOCAMPUS, ("2d",), ((0.8, 1.2),), 80),
    "lowres_3d": Model(HIPPOCAMPUS, (LOWRES,), ((1.4, 1.9, 1.7),), 300),
    "cascade_3d": Model(
        HIPPOCAMPUS, (LOWRES, CASCADE), ((1.4, 1.9, 1.7), (1.4, 0.8, 1.2)), 300
    ),
    "regions_3d": Model("Dataset005_Regions", ("3d_fullres",), ((1.2, 1.4, 0.8),), 160),
    "sarcoma_ct": Model(
        "Dataset006_SarcomaCT", ("3d_fullres",), ((5.0, 1.9, 2.2),), 100, oversampling=0.33
    ),
    # Trained on small crops, it finds much in a whole thorax, right or wrong.
    "large_ct": Model(
        "Dataset006_SarcomaCT",
        ("3d_fullres",),
        ((4.0, 3.5, 3.5),),
        100,
        oversampling=0.33,
        scans="Dataset007_LungCT",
    ),
    "lung_ct": Model("Dataset007_LungCT", ("3d_fullres",), ((3.6, 3.1, 3.9),), 500, "all"),
}  # fmt: skip
EPOCHS = 3


def gaps(file: Path, regions: bool) -> NDArray[np.float32]:
    """How far each voxel's logits were from another label, from autoseg's probabilities."""
    probability = np.load(file)["probabilities"].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        if regions:
            apart: NDArray[np.float32] = abs(np.log(probability / (1 - probability))).min(0)
        else:
            second, first = np.partition(probability, (-2, -1), axis=0)[-2:]
            apart = np.log(first / second)
    return apart


def trained_folders(model: Model, options: argparse.Namespace) -> list[Path]:
    """The folder that nnU-Net made of each stage, trained now unless it was before."""
    if model.iterations == 0:
        return list((options.shared / "nnunet_model").glob("*/*"))
    folders = []
    for stage in model.stages:
        name = f"nnUNetTrainer__{BRIEF}__{stage}"
        folder = options.folder / "nnUNet_results" / model.dataset / name
        training = {
            "dataset": model.dataset,
            "configuration": stage,
            "fold": model.fold,
            "epochs": EPOCHS,
            "iterations": model.iterations,
            "oversampling": model.oversampling,
        }
        if not (folder / f"fold_{model.fold}" / "checkpoint_final.pth").exists():
            ask_peer("nnunet_brief.py", [options.folder, json.dumps(training)], options)
        folders.append(folder)
    return folders


def ask_peer(script: str, words: Sequence[str | Path], options: argparse.Namespace) -> None:
    with (options.folder / "peer.log").open("a") as log:
        command = [options.peer, PEER / script, *words, str(available_cores())]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def copy_model(source: Path, target: Path, fold: int | str, spacing: Sequence[float] | None) -> str:
    """Copy what predicting needs, at another spacing if one is given; the planned spacing."""
    stage = source.name.rpartition("__")[2]
    (target / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
    for name in ("dataset.json", f"fold_{fold}/checkpoint_final.pth"):
        shutil.copy(source / name, target / name)
    plans = json.loads((source / "plans.json").read_text())
    configuration = plans["configurations"][stage]
    if spacing is not None:
        configuration["spacing"] = list(spacing)
    (target / "plans.json").write_text(json.dumps(plans))
    return " x ".join(f"{mm:g}" for mm in configuration["spacing"])


def predict_both(
    name: str, variant: str, scans: Sequence[Path], options: argparse.Namespace
) -> dict[str, Any]:
    """Masks of both for all scans, compared."""
    model = MODELS[name]
    place = options.folder / "models" / name / variant
    jobs: list[dict[str, Any]] = []
    spacing = ""
    for index, folder in enumerate(trained_folders(model, options)):
        other = model.other_spacing_mm[index] if variant == "other" else None
        spacing = copy_model(folder, place / folder.name, model.fold, other)
        jobs.append(
            {
                "model": str(place / folder.name),
                "fold": model.fold,
                "scans": [str(scan) for scan in scans],
                "output": str(options.folder / "masks" / name / variant / folder.name),
                "previous": jobs[-1]["output"] if jobs else None,
            }
        )
    ask_peer("nnunet_predict.py", [json.dumps(jobs)], options)
    imported = import_models(place, options.folder / "imported" / name / variant)
    predictor = Predictor.load(imported, "cpu", "fp32", "torch")
    scheme = predictor.card.labels
    result = Comparison(dict(zip(scheme.names[1:], scheme.values[1:], strict=True)))
    for case in list_scans(scans, len(predictor.card.channel_names)).cases:
        scan = read_channels(case)
        file = options.folder / "probabilities.npz"
        ours = predictor(scan, case.case_id, RequestedMaps(probability_file=file)).labels
        theirs = read_labels(Path(jobs[-1]["output"]) / f"{case.case_id}.nii.gz")
        gap = gaps(file, bool(scheme.regions))
        apart = (ours.array != theirs.array) & (gap > NEAR_TIE)
        if apart.any():
            first = Path(jobs[-2]["output"]) / f"{case.case_id}.nii.gz" if jobs[1:] else None
            apart &= labels_as_nnunet(predictor, scan, first) != theirs.array
        result.add(ours, theirs, gap, apart)
    return {"spacing_mm": spacing, **result.record()}


def labels_as_nnunet(predictor: Predictor, scan: Volume, first: Path | None) -> NDArray[Any]:
    """Labels where logits are summed in float16, and the first stage of a cascade found `first`."""
    ready = predictor.prepare(scan, "scan")
    scheme, scans = predictor.card.labels, list(ready.scans)
    if first is not None:
        classes = scheme.encode_mask(read_labels(first).array)
        mask = place_mask(classes, scans[0].placement, predictor.card.configuration.grid)
        scans = [replace(scans[0], maps={"stage_mask": mask})]
    with patch.object(models, "DenseSums", HalfSums):
        whole = WholeScan(predictor.groups, scans, predictor.device, predictor.memory_gib)
        return scheme.decode(whole.segment(RequestedMaps()).classes)


class HalfSums(DenseSums):
    """Sums of logits in float16, as nnU-Net keeps them."""

    def add(self, logits: torch.Tensor, starts: Sequence[int]) -> None:
        super().add(logits, starts)
        assert self.logits is not None
        _, place = self._overlap(starts)
        self.logits[:, :, *place] = self.logits[:, :, *place].half().float()
        self.total[:, *place] = self.total[:, *place].half().float()

    def means(self, low: int, high: int) -> Iterator[torch.Tensor]:
        for rows in super().means(low, high):
            yield rows.half().float()


class Comparison:
    """Counts over cases of where two masks agree."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = values
        self.counts: dict[str, list[tuple[int, int, int]]] = {name: [] for name in values}
        self.voxels = self.differing = self.unexplained = 0
        self.gaps: list[NDArray[np.float32]] = []
        self.equal_grids = True

    def add(
        self, ours: Volume, theirs: Volume, gap: NDArray[np.float32], apart: NDArray[np.bool_]
    ) -> None:
        a, b = ours.array, theirs.array
        self.equal_grids &= a.shape == b.shape and same_space(ours.grid, theirs.grid)
        differing = a != b
        self.voxels += a.size
        self.differing += int(differing.sum())
        self.unexplained += int(apart.sum())
        self.gaps.append(gap[differing])
        for name, value in self.values.items():
            x, y = a == value, b == value
            self.counts[name].append((int((x & y).sum()), int(x.sum()), int(y.sum())))

    def record(self) -> dict[str, Any]:
        """What is reported; classes that neither found have no Dice."""
        classes = {name: _class_record(counts) for name, counts in self.counts.items()}
        gaps = np.concatenate(self.gaps)
        record: dict[str, Any] = {
            "cases": len(self.gaps),
            "equal_grids": self.equal_grids,
            "voxels": self.voxels,
            "voxels_differing": self.differing,
            "largest_gap_of_differing": float(gaps.max(initial=0.0)),
            "differing_beyond_near_tie": int((gaps > NEAR_TIE).sum()),
            "of_these_unexplained": self.unexplained,
            "classes": classes,
        }
        lost = any(found["cases_lost"] for found in classes.values())
        dice = [found["dice_pooled"] for found in classes.values()]
        low = any(value is not None and value < MIN_DICE for value in dice)
        return record | {"good": self.equal_grids and not (lost or low or self.unexplained)}


def _class_record(counts: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Of one class: counts of each case are voxels of both, of ours, and of theirs."""
    dice = [2 * both / (ours + theirs) for both, ours, theirs in counts if ours + theirs]
    both, ours, theirs = np.sum(counts, axis=0).tolist()
    return {
        "nnunetv2_voxels": theirs,
        "dice_min": min(dice, default=None),
        "dice_pooled": 2 * both / (ours + theirs) if ours + theirs else None,
        "cases_lost": sum(ours == 0 < theirs for _, ours, theirs in counts),
    }


def show(name: str, variant: str, result: dict[str, Any]) -> None:
    """One row for each class."""
    print(
        f"{'ok ' if result['good'] else 'BAD'} {name:12}{variant:8}{result['spacing_mm']:16}"
        f"{result['cases']:3} cases {result['voxels_differing']:5} of {result['voxels']:9} differ, "
        f"largest gap {result['largest_gap_of_differing']:.4f}, "
        f"{result['differing_beyond_near_tie']} beyond {NEAR_TIE}, "
        f"{result['of_these_unexplained']} of these unexplained"
    )
    for label, found in result["classes"].items():
        if found["dice_min"] is None:
            print(f"{'':16}{label:12} not in nnU-Net's masks, nor in ours")
        else:
            print(
                f"{'':16}{label:12}{found['nnunetv2_voxels']:9} voxels  Dice min "
                f"{found['dice_min']:.6f} pooled {found['dice_pooled']:.6f}  "
                f"lost in {found['cases_lost']} cases",
                flush=True,
            )


def save(name: str, found: dict[str, Any]) -> None:
    """Put one model's results among those of the others."""
    path = RESULTS / "nnunet_import.json"
    known = json.loads(path.read_text())["models"] if path.exists() else {}
    known[name] = found
    machine = machine_of(choose_device()).model_dump(mode="json")
    models = {model: known[model] for model in MODELS if model in known}
    path.write_text(json.dumps({"machine": machine, "models": models}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("folder", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--spacings", nargs="+", default=["planned", "other"])
    parser.add_argument("--cases", type=int, help="predict only so many of each dataset")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        model = MODELS[name]
        scans = make_dataset(model.dataset, options.folder, options.shared)
        if model.scans:
            scans = make_dataset(model.scans, options.folder, options.shared)
        scans = scans[: options.cases]
        found: dict[str, Any] = {"iterations": model.iterations * EPOCHS or 1250}
        for variant in options.spacings:
            found[variant] = predict_both(name, variant, scans, options)
            show(name, variant, found[variant])
        save(name, found)


if __name__ == "__main__":
    main()
