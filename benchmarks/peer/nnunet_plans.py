"""Runs nnU-Net v2's own planners on many fingerprints. Belongs to planner_parity.py.

Called with the peer's Python: nnunet_plans.py FOLDER. Reads specifications.json there, and writes
plans.json and versions.json. Networks are built on torch's meta device, which gives the same sizes
without their memory.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = str(folder / variable)
os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.configuration import ANISO_THRESHOLD  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (  # noqa: E402
    ExperimentPlanner,
)
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (  # noqa: E402
    residual_encoder_unet_planners as residual,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402

PLANNERS = {
    "ExperimentPlanner": ExperimentPlanner,
    "nnUNetPlannerResEncM": residual.nnUNetPlannerResEncM,
    "nnUNetPlannerResEncL": residual.nnUNetPlannerResEncL,
    "nnUNetPlannerResEncXL": residual.nnUNetPlannerResEncXL,
}
RAW = folder / "nnUNet_raw" / "Dataset001_A"
PREPROCESSED = folder / "nnUNet_preprocessed" / "Dataset001_A"


def write_dataset(spec: dict[str, Any]) -> None:
    """What nnU-Net's planners read: the description, and the fingerprint as it is extracted."""
    for place in (RAW, PREPROCESSED):
        shutil.rmtree(place, ignore_errors=True)  # configurations of old plans would be kept
        place.mkdir(parents=True)
    description = spec["description"] | {
        "numTraining": sum(scan["count"] for scan in spec["scans"]),
        "file_ending": ".nii.gz",
        "dataset": {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}},
    }
    (RAW / "dataset.json").write_text(json.dumps(description))
    scans = [scan for scan in spec["scans"] for _ in range(scan["count"])]
    cropped = [np.prod(scan["cropped_vox"]) / np.prod(scan["shape_vox"]) for scan in scans]
    fingerprint = {
        "spacings": [scan["spacing_mm"] for scan in scans],
        "shapes_after_crop": [scan["cropped_vox"] for scan in scans],
        "foreground_intensity_properties_per_channel": {
            str(channel): intensity for channel, intensity in enumerate(spec["intensity"])
        },
        "median_relative_size_after_cropping": np.median(cropped, 0),
    }
    (PREPROCESSED / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))


def make_plan(spec: dict[str, Any]) -> dict[str, Any]:
    """The plans of a planner; without a memory target, of the one it has by itself."""
    write_dataset(spec)
    memory = {} if spec["memory_gib"] is None else {"gpu_memory_target_in_gb": spec["memory_gib"]}
    planner = PLANNERS[spec["planner"]](1, **memory)
    planner.determine_reader_writer = lambda: ExperimentPlanner  # only its name is used
    plans: dict[str, Any] = planner.plan_experiment()
    return plans | {"separate_axis_ratio": ANISO_THRESHOLD, "unusable": unusable(plans)}


def unusable(plans: dict[str, Any]) -> dict[str, str]:
    """Why networks of a single stage, which the planners do plan, cannot predict anything."""
    errors = {}
    for name, configuration in plans["configurations"].items():
        architecture = configuration.get("architecture")
        if architecture is None or architecture["arch_kwargs"]["n_stages"] > 1:
            continue
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            1,
            2,
        )
        try:
            network(torch.zeros(2, 1, *configuration["patch_size"]))
        except Exception as error:
            errors[name] = repr(error)
    return errors


def main() -> None:
    warnings.simplefilter("ignore")  # residual planners warn of every memory target but their own
    plans = []
    for spec in json.loads((folder / "specifications.json").read_text()):
        try:
            with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
                plans.append(make_plan(spec))
        except Exception as error:
            plans.append({"error": repr(error)})
    (folder / "plans.json").write_text(json.dumps(plans))
    packages = ("nnunetv2", "dynamic_network_architectures", "torch", "numpy")
    (folder / "versions.json").write_text(json.dumps({name: version(name) for name in packages}))


main()
