"""Trains nnU-Net v2 itself on fold 0. Belongs to training.py.

Called with the peer's Python: nnunet_train.py FOLDER TRAINER SEED THREADS. FOLDER holds nnUNet_raw
with one dataset, and its plans.json, the plan to train with. Prepares the dataset unless that is
done, trains `3d_fullres`, predicts the held-out cases, and writes result_SEED.json: seconds of each
epoch and of all training, and Dice of each held-out case and class.
"""

import json
import os
import sys
import time
from pathlib import Path

folder, trainer_name, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.environ["nnUNet_raw"] = str(folder / "nnUNet_raw")  # noqa: SIM112
os.environ["nnUNet_preprocessed"] = str(folder / "nnUNet_preprocessed")  # noqa: SIM112
os.environ["nnUNet_results"] = str(folder / f"nnUNet_results_{seed}")  # noqa: SIM112
os.environ.setdefault("nnUNet_n_proc_DA", "1")
os.environ["nnUNet_compile"] = "f"  # noqa: SIM112

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # noqa: E402
    extract_fingerprints,
    preprocess_dataset,
)
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402


def prepare(dataset_id: int, name: str) -> str:
    """Preprocess with the given plan; its name."""
    plans = json.loads((folder / "plans.json").read_text())
    prepared = folder / "nnUNet_preprocessed" / name
    if not (prepared / "done").exists():
        extract_fingerprints([dataset_id], num_processes=1, check_dataset_integrity=False)
        (prepared / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
        description = (folder / "nnUNet_raw" / name / "dataset.json").read_text()
        (prepared / "dataset.json").write_text(description)
        preprocess_dataset(
            dataset_id, plans["plans_name"], ("3d_fullres",), num_processes=(1,), verbose=False
        )
        (prepared / "done").touch()
    return str(plans["plans_name"])


def main() -> None:
    (raw,) = (folder / "nnUNet_raw").iterdir()
    dataset_id = int(raw.name[7:10])
    plans_name = prepare(dataset_id, raw.name)
    torch.set_num_threads(int(sys.argv[4]))
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    trainer = get_trainer_from_args(
        str(dataset_id), "3d_fullres", 0, trainer_name, plans_name, device=torch.device("cpu")
    )
    started = time.monotonic()
    trainer.run_training()
    trained = time.monotonic() - started
    trainer.perform_actual_validation(False)
    summary = Path(trainer.output_folder) / "validation" / "summary.json"
    cases = {
        Path(case["prediction_file"]).name.removesuffix(".nii.gz"): {
            label: score["Dice"] for label, score in case["metrics"].items()
        }
        for case in json.loads(summary.read_text())["metric_per_case"]
    }
    logged = trainer.logger.local_logger.my_fantastic_logging
    ends, starts = logged["epoch_end_timestamps"], logged["epoch_start_timestamps"]
    result = {
        "seconds": trained,
        "epoch_seconds": [end - start for start, end in zip(starts, ends, strict=True)],
        "cases": cases,
    }
    (folder / f"result_{seed}.json").write_text(json.dumps(result))


if __name__ == "__main__":  # its preparing starts processes anew
    main()
