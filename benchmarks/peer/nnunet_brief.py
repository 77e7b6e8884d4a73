"""Trains nnU-Net v2 for a few iterations. Belongs to nnunet_import.py.

Called with the peer's Python: nnunet_brief.py FOLDER TRAINING THREADS, where TRAINING is JSON with
dataset, configuration, fold, epochs, iterations of an epoch, and the share of patches that must
have foreground. FOLDER holds nnUNet_raw, and for each dataset its plans and its splits. Prepares
the dataset unless that is done. Where the plan has a next stage, all cases are predicted for it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = str(folder / variable)
os.environ.setdefault("nnUNet_n_proc_DA", "1")
os.environ.setdefault("nnUNet_def_n_proc", "2")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # noqa: E402
    extract_fingerprints,
    preprocess_dataset,
)
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402

STATISTICS = "foreground_intensity_properties_per_channel"
SEED, CHECKED = 0, 3  # patches of validation after an epoch


def prepare(name: str) -> str:
    """Preprocess for every configuration of the plan; the plan's name."""
    plans = json.loads((folder / f"{name}_plans.json").read_text())
    prepared = folder / "nnUNet_preprocessed" / name
    if (prepared / "done").exists():
        return str(plans["plans_name"])
    extract_fingerprints([int(name[7:10])], num_processes=1, check_dataset_integrity=False)
    fingerprint = json.loads((prepared / "dataset_fingerprint.json").read_text())
    plans[STATISTICS] = fingerprint[STATISTICS]
    (prepared / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
    for source, target in (
        (folder / "nnUNet_raw" / name / "dataset.json", "dataset.json"),
        (folder / f"{name}_splits.json", "splits_final.json"),
    ):
        (prepared / target).write_text(source.read_text())
    by_data = {given["data_identifier"]: n for n, given in plans["configurations"].items()}
    preprocess_dataset(
        int(name[7:10]),
        plans["plans_name"],
        tuple(by_data.values()),
        num_processes=(1,) * len(by_data),
        verbose=False,
    )
    (prepared / "done").touch()
    return str(plans["plans_name"])


def train(training: dict[str, Any], plans_name: str) -> None:
    trainer = get_trainer_from_args(
        training["dataset"],
        training["configuration"],
        training["fold"],
        plans_identifier=plans_name,
        device=torch.device("cpu"),
    )
    trainer.num_epochs = training["epochs"]
    trainer.num_iterations_per_epoch = training["iterations"]
    trainer.num_val_iterations_per_epoch = CHECKED
    trainer.oversample_foreground_percent = training["oversampling"]
    trainer.run_training()
    if trainer.configuration_manager.next_stage_names:
        learnt, unseen = trainer.do_split()
        trainer.do_split = lambda: (learnt, [*learnt, *unseen])
        trainer.perform_actual_validation(False)


def main() -> None:
    training = json.loads(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002
    train(training, prepare(training["dataset"]))


if __name__ == "__main__":  # its preparing starts processes anew
    main()
