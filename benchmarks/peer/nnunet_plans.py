"""Runs nnU-Net v2's own planner on many fingerprints. Belongs to planner_parity.py.

Called with the peer's Python: nnunet_plans.py SPECIFICATIONS.json PLANS.json. Networks are built on
torch's meta device, which gives the same sizes without their memory.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = str(folder / variable)

import torch  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (  # noqa: E402
    ExperimentPlanner,
)


def plan(spec: dict) -> dict:
    raw, preprocessed = folder / "nnUNet_raw" / "Dataset001_A", folder / "nnUNet_preprocessed"
    (preprocessed / "Dataset001_A").mkdir(parents=True, exist_ok=True)
    raw.mkdir(parents=True, exist_ok=True)
    dataset = {
        "channel_names": {str(i): name for i, name in enumerate(spec["channels"])},
        "labels": {"background": 0} | {f"class_{i}": i for i in range(1, spec["classes"])},
        "numTraining": len(spec["spacings"]),
        "file_ending": ".nii.gz",
        "dataset": {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}},
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    intensity = dict.fromkeys(
        ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5"), 1.0
    )
    fingerprint = {
        "spacings": spec["spacings"],
        "shapes_after_crop": spec["shapes"],
        "foreground_intensity_properties_per_channel": {
            str(i): intensity for i in range(len(spec["channels"]))
        },
        "median_relative_size_after_cropping": spec["crop"],
    }
    (preprocessed / "Dataset001_A" / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    planner = ExperimentPlanner(1, gpu_memory_target_in_gb=spec["memory_gb"])
    planner.determine_reader_writer = lambda: ExperimentPlanner  # only its name is used
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        return planner.plan_experiment()


plans = []
for specification in json.loads(Path(sys.argv[1]).read_text()):
    try:
        plans.append(plan(specification))
    except Exception as error:
        plans.append({"error": repr(error)})
Path(sys.argv[2]).write_text(json.dumps(plans))
