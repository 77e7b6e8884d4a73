"""Plans of the rule set `nnunet` against nnU-Net v2's own planner, field by field.

    python benchmarks/planner_parity.py PEER_PYTHON [--count 300]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset import LabelScheme
from autoseg.errors import AutosegError
from autoseg.fingerprint import CaseStats, ClassStats, Fingerprint, IntensityStats
from autoseg.machine import Machine
from autoseg.planning.plan import Configuration
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set

HERE = Path(__file__).parent
INTENSITY = IntensityStats(
    mean=1, std=1, min=1, max=1, percentile_00_5=1, median=1, percentile_99_5=1
)
KINDS = {"CTNormalization": "ct", "ZScoreNormalization": "zscore", "NoNormalization": "none"}


def specification(rng: np.random.Generator) -> dict[str, Any]:
    """A random dataset: isotropic to very anisotropic, tiny to huge, few to many cases."""
    cases = int(rng.choice([1, 2, 5, 20, 100, 500]))
    base = np.exp(rng.uniform(np.log(0.3), np.log(3)))
    spacing = np.full(3, base)
    if rng.random() < 0.6:
        spacing[rng.integers(3)] *= rng.choice([1.5, 2, 3, 5, 10])
    size = np.exp(rng.uniform(np.log(20), np.log(600)))
    shape = np.clip(size * base / spacing * rng.uniform(0.5, 1.5, 3), 12, 900)
    spacings = spacing * rng.choice([1.0, 1.0, 0.8, 1.3], (cases, 3))
    shapes = np.maximum(8, shape * rng.uniform(0.8, 1.2, (cases, 3))).astype(int)
    channels = rng.choice(["CT", "MRI", "noNorm", "T2"], rng.integers(1, 6)).tolist()
    return {
        "spacings": spacings.tolist(),
        "shapes": shapes.tolist(),
        "channels": channels,
        "classes": int(rng.choice([2, 3, 5, 20, 100])),
        "crop": float(rng.choice([1.0, 0.9, 0.74, 0.3])),
        "memory_gb": 8,
    }


def autoseg_plan(spec: dict[str, Any]) -> dict[str, Configuration]:
    classes = spec["classes"]
    cases = tuple(
        CaseStats(
            case_id=str(index),
            shape_vox=(shape[0], shape[1], shape[2]),
            cropped_shape_vox=(shape[0], shape[1], shape[2]),
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            axis_codes="SAR",
            class_voxels=(1,) * classes,
            intensity=None,
            # Not a whole number of voxels, so that every case has the very same crop fraction.
        ).model_copy(update={"shape_vox": (shape[0] / spec["crop"], shape[1], shape[2])})
        for index, (spacing, shape) in enumerate(zip(spec["spacings"], spec["shapes"], strict=True))
    )
    stats = ClassStats(
        name="a",
        value=1,
        image_fraction=0.1,
        foreground_fraction=1,
        case_fraction=1,
        components_per_case=1,
        component_volume_mm3_p05=1,
        component_volume_mm3_median=1,
        component_volume_mm3_p95=1,
    )
    fingerprint = Fingerprint(
        channel_names=tuple(spec["channels"]),
        labels=LabelScheme(
            values=tuple(range(classes)), names=tuple(str(i) for i in range(classes))
        ),
        cases=cases,
        foreground_intensity=(INTENSITY,) * len(spec["channels"]),
        classes=(stats,),
    )
    machine = Machine(gpu_name="any", gpu_memory_gb=8, cores=8, memory_gb=64, bf16=True)
    plan = make_plan(fingerprint, load_rule_set("nnunet"), machine)
    return {str(name): configuration for name, configuration in plan.configurations.items()}


def fields_of_ours(plan: Configuration) -> dict[str, Any]:
    stages = plan.network.stages
    return {
        "transpose": list(plan.axis_order),
        "spacing": np.round(plan.target_spacing_mm, 9).tolist(),
        "median_shape": list(plan.median_shape_vox),
        "patch_size": list(plan.patch_size_vox),
        "batch_size": plan.batch_size,
        "features": [s.features for s in stages],
        "strides": [list(s.stride) for s in stages],
        "kernel_sizes": [list(s.kernel_size) for s in stages],
        "blocks": [s.blocks for s in stages],
        "decoder_blocks": [s.decoder_blocks for s in stages[:-1]],
        "batch_dice": plan.loss.batch_dice,
        "normalization": [n.kind for n in plan.normalization],
        "mask": [n.masked for n in plan.normalization],
    }


def fields_of_theirs(plan: dict[str, Any], name: str) -> dict[str, Any]:
    configuration = plan["configurations"][name]
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "transpose": plan["transpose_forward"],
        "spacing": np.round(configuration["spacing"], 9).tolist(),
        "median_shape": list(configuration["median_image_size_in_voxels"]),
        "patch_size": list(configuration["patch_size"]),
        "batch_size": configuration["batch_size"],
        "features": list(network["features_per_stage"]),
        "strides": [list(s) for s in network["strides"]],
        "kernel_sizes": [list(k) for k in network["kernel_sizes"]],
        "blocks": list(network["n_conv_per_stage"]),
        "decoder_blocks": list(network["n_conv_per_stage_decoder"]),
        "batch_dice": configuration["batch_dice"],
        "normalization": [KINDS[n] for n in configuration["normalization_schemes"]],
        "mask": configuration["use_mask_for_norm"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    specifications = [specification(rng) for _ in range(options.count)]
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "specifications.json", Path(folder) / "plans.json"
        question.write_text(json.dumps(specifications))
        script = HERE / "peer" / "nnunet_plans.py"
        subprocess.run([options.peer_python, str(script), str(question), str(answer)], check=True)
        theirs = json.loads(answer.read_text())
    equal: Counter[str] = Counter()
    compared = 0
    failures = {"nnunetv2": 0, "autoseg": 0}
    for spec, their_plan in zip(specifications, theirs, strict=True):
        try:
            our_plans = autoseg_plan(spec)
        except AutosegError:
            our_plans = {}
            failures["autoseg"] += 1
        if "error" in their_plan:
            failures["nnunetv2"] += 1
            continue
        for name, ours in our_plans.items():
            compared += 1
            ours_fields, their_fields = fields_of_ours(ours), fields_of_theirs(their_plan, name)
            for field in ours_fields:
                if ours_fields[field] == their_fields[field]:
                    equal[field] += 1
                else:
                    print(name, field, ours_fields[field], their_fields[field])
    shares = {field: equal[field] / compared for field in fields_of_ours(ours)}
    for field, share in shares.items():
        print(f"{field:16} {share:7.2%} of {compared} configurations equal")
    print(f"could not be planned: {failures}")
    result = {"datasets": options.count, "compared": compared, "equal": shares} | failures
    (HERE / "results" / "planner_parity.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
