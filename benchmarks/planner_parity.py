"""Plans of the rule set `nnunet` against nnU-Net v2's own planner, field by field.

    python -m benchmarks.planner_parity PEER_PYTHON [--count 300] [--golden FILE]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1. `--golden` saves the peer's
plans of small datasets, for tests that need no nnunetv2.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.errors import AutosegError
from tests.planning.specified import autoseg_plan, fields_of_ours

HERE = Path(__file__).parent
MOST_GOLDEN_CASES, GOLDEN_COUNT = 5, 30
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


def save_golden(
    path: Path, specifications: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> None:
    """The peer's plans of the first datasets that have few cases."""
    golden = [
        {"dataset": spec, "plans": {n: fields_of_theirs(plan, n) for n in ("2d", "3d_fullres")}}
        for spec, plan in zip(specifications, theirs, strict=True)
        if len(spec["spacings"]) <= MOST_GOLDEN_CASES and "error" not in plan
    ]
    path.write_text(json.dumps(golden[:GOLDEN_COUNT]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    specifications = [specification(rng) for _ in range(options.count)]
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "specifications.json", Path(folder) / "plans.json"
        question.write_text(json.dumps(specifications))
        script = HERE / "peer" / "nnunet_plans.py"
        subprocess.run([options.peer_python, str(script), str(question), str(answer)], check=True)
        theirs = json.loads(answer.read_text())
    if options.golden:
        save_golden(options.golden, specifications, theirs)
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
