"""Prepared arrays of autoseg against those of nnU-Net v2's preprocessor, on real scans.

    python -m benchmarks.prepare_parity PEER_PYTHON SHARED_DATA [--only hippocampus ...]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1 (batchgenerators 0.25.5,
scikit-image 0.26.0, scipy 1.17.1). Every scan is prepared as planned by the published rules, and at
other target spacings, so that it is really resampled. Images are compared by their largest
difference, labels by Dice of each class; a voxel whose label differs must be a near-tie.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import OUTSIDE, LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.reading import read_case
from autoseg.device import choose_device, machine_of
from autoseg.geometry import Grid
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.networks import family_of
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set
from autoseg.preprocessing.placing import prepare_scan
from autoseg.preprocessing.resample import resample_image, separate_axis

RESULTS = Path(__file__).parent / "results"
SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "none": "NoNormalization",
    "rescale_0_1": "RescaleTo01Normalization",
    "rgb_0_1": "RGBTo01Normalization",
}
FACTORS = (1.0, 0.7, 1.6)
NEAR_TIE, MAX_DIFFERENCE_STD, MIN_DICE = 1e-4, 1e-3, 0.999


@dataclass(frozen=True, slots=True)
class Question:
    """One scan to prepare at one spacing."""

    name: str
    image: NDArray[np.float32]
    classes: NDArray[np.uint8]
    grid: Grid
    plan: GridPlan


def datasets(shared: Path) -> dict[str, Dataset]:
    """The real datasets, each as autoseg opens it; single scans become datasets of one case."""

    def single(name: str, channel: str, image: str, label: str) -> Dataset:
        case = Case(name, (ChannelSource(shared / image),), shared / label, name)
        return Dataset(shared, "plain", (channel,), None, (case,))

    sarcoma = tuple(
        Case(p.name, (ChannelSource(p / "CT_image.nii.gz"),), p / "CT_mask.nii.gz", p.name)
        for p in sorted((shared / "sarcoma").iterdir())
        if p.is_dir()
    )
    lung, cord = "lung_ct/4DLung_P113", "spinal_cord"
    return {
        "hippocampus": open_dataset(shared / "hippocampus"),
        "sarcoma_ct": Dataset(shared, "plain", ("CT",), None, sarcoma),
        "lung_ct": single("lung", "CT", f"{lung}_0000.nii.gz", f"{lung}.nii.gz"),
        "cord_t2": single("t2", "T2", f"{cord}/t2/t2.nii.gz", f"{cord}/t2/t2_seg-manual.nii.gz"),
        "cord_t2s": single(
            "t2s", "T2s", f"{cord}/t2s/t2s.nii.gz", f"{cord}/t2s/t2s_gmseg_manual.nii.gz"
        ),
        "nuclei": open_dataset(shared / "nuclei"),
    }


def questions(name: str, dataset: Dataset, cases: int) -> Iterator[tuple[Plan, Question]]:
    """Scans at planned and at overridden spacings, low resolution and both sides of ratio 3."""
    fingerprint = make_fingerprint(dataset, workers=2)
    rules, machine = load_rule_set("nnunet"), machine_of(choose_device())
    plan = make_plan(PlanningInputs(fingerprint, rules, machine, family_of))
    step = max(1, len(dataset.cases) // cases)
    for case in dataset.cases[::step][:cases]:
        image, label = read_case(case)
        classes = fingerprint.labels.encode(label.array, label.grid.spacing_mm)
        for variant, grid_plan in _variants(plan, image.grid):
            question = f"{name}.{case.case_id}.{variant}"
            yield plan, Question(question, image.array, classes, image.grid, grid_plan)


def _variants(plan: Plan, grid: Grid) -> Iterator[tuple[str, GridPlan]]:
    for name, configuration in plan.configurations.items():
        if name == "3d_cascade_fullres":
            continue
        for factor in FACTORS if name != "3d_lowres" else (1.0,):
            target = tuple(factor * mm for mm in configuration.grid.target_spacing_mm)
            changed = configuration.grid.model_copy(update={"target_spacing_mm": target})
            yield f"{name}_x{factor}", changed
    if "3d_fullres" not in plan.configurations:
        return
    base = plan.configurations["3d_fullres"].grid
    fine = min(base.target_spacing_mm)
    for variant, target in {
        "ratio_2.9": (2.9 * fine, fine, fine),
        "ratio_3.1": (3.1 * fine, fine, fine),
        "two_coarse": (3.5 * fine, 3.5 * fine, fine),
    }.items():
        yield variant, base.model_copy(update={"target_spacing_mm": target})


def ask(question: Question, plan: Plan, folder: Path) -> None:
    """Write a question for the peer: arrays, and a plan of its own kind that says the same."""
    grid_plan = question.plan
    order = list(grid_plan.axis_order)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    function = "resample_data_or_seg_to_shape"
    asked = {
        "data_identifier": "asked",
        "architecture": {},
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(grid_plan.target_spacing_mm),
        "normalization_schemes": [SCHEMES[n.kind] for n in grid_plan.normalization],
        "use_mask_for_norm": [n.masked for n in grid_plan.normalization],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
    }
    plans = {
        "dataset_name": "a",
        "plans_name": "a",
        "transpose_forward": order,
        "transpose_backward": np.argsort(order).tolist(),
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(index): channel.statistics.model_dump()
            for index, channel in enumerate(grid_plan.normalization)
        },
        "configurations": {"asked": asked},
    }
    labels = {name: index for index, name in enumerate(plan.labels.names)}
    content = {
        "plans": plans,
        "spacing": list(question.grid.planning_spacing_mm)
        if grid_plan.spatial_dims == 2
        else list(question.grid.spacing_mm),
        "dataset": {"channel_names": {"0": "x"}, "labels": labels},
    }
    np.savez(
        folder / f"{question.name}.npz",
        image=question.image,
        label=question.classes[None].astype(np.int16),
        asked=np.array(json.dumps(content)),
    )


def compare(question: Question, labels: LabelScheme, folder: Path) -> dict[str, Any]:
    """Differences between our arrays and the peer's."""
    ours = prepare_scan(
        question.image, question.classes, question.grid, question.plan, question.name
    )
    with np.load(folder / f"{question.name}.answer.npz") as theirs:
        image, seg = theirs["image"], theirs["label"][0]
    assert ours.label is not None
    label = np.where(seg < 0, 0, seg)
    differing = ours.label != label
    if ours.outside_mask is not None:
        differing |= ours.outside_mask != (seg < 0)
    dice = {}
    for index in range(1, len(labels.values)):
        a, b = ours.label == index, label == index
        if a.any() or b.any():  # a tiny class may vanish from both at a coarse spacing
            dice[labels.names[index]] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return {
        "shape": list(ours.image.shape[1:]),
        "equal_shapes": ours.image.shape == image.shape,
        "image_difference_std": float(np.abs(ours.image - image).max() / image.std()),
        "dice": min(dice.values(), default=1.0),
        "classes_lost": [n for n, v in dice.items() if v == 0],
        "voxels_differing": int(differing.sum()),
        "largest_gap_of_differing": _largest_gap(question, ours.placement, differing),
    }


def _largest_gap(question: Question, placement: Any, differing: NDArray[np.bool_]) -> float:
    """How far the two largest indicators are apart where labels differ: 0 is a perfect tie."""
    if not differing.any():
        return 0.0
    crop = placement.to_plan_axes(question.classes)[placement.crop.slices]
    inside = placement.to_plan_axes((question.image != 0).any(axis=0))[placement.crop.slices]
    values = np.where(inside | (crop > 0), crop, np.uint8(OUTSIDE))
    separate = separate_axis(placement.source_spacing_mm, placement.target_spacing_mm, 3.0)
    scores = np.stack(
        [
            resample_image(
                (values == value).astype(np.float32)[None],
                placement.resampled_shape_vox,
                1,
                separate,
            )[0][differing]
            for value in np.unique(values)
        ]
    )
    top = np.sort(scores, axis=0)
    return float((top[-1] - top[-2]).max())


def is_good(result: dict[str, Any]) -> bool:
    """Whether a scan's arrays are as equal as they must be."""
    return bool(
        result["equal_shapes"]
        and result["image_difference_std"] < MAX_DIFFERENCE_STD
        and result["dice"] >= MIN_DICE
        and not result["classes_lost"]
        and result["largest_gap_of_differing"] < NEAR_TIE
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--cases", type=int, default=5)
    options = parser.parse_args()
    script = str(Path(__file__).parent / "peer" / "nnunet_prepare.py")
    results: dict[str, dict[str, Any]] = {}
    for name, dataset in datasets(options.shared).items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            asked = list(questions(name, dataset, options.cases))
            for plan, question in asked:
                ask(question, plan, Path(folder))
            subprocess.run([options.peer_python, script, folder], check=True)
            for plan, question in asked:
                result = compare(question, plan.labels, Path(folder))
                result["good"] = is_good(result)
                results[question.name] = result
                print("ok " if result["good"] else "BAD", question.name, result, flush=True)
    path = RESULTS / "prepare_parity.json"
    known = json.loads(path.read_text()) if path.exists() and options.only else {}
    path.write_text(json.dumps(known | results, indent=1) + "\n")
    print(f"{sum(r['good'] for r in results.values())} of {len(results)} equal")


if __name__ == "__main__":
    main()
