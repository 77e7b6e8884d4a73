"""Predicts with nnU-Net v2 on the CPU, with its own defaults. Belongs to nnunet_import.py.

Called with the peer's Python: nnunet_predict.py JOBS THREADS, where JOBS is JSON: a list of model
(a trained folder), fold, scans, output, and previous (None, or the folder of the masks of the stage
before). Jobs whose masks are all there are not repeated.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = tempfile.mkdtemp()
os.environ.setdefault("nnUNet_def_n_proc", sys.argv[2])

import torch  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402


def predict(job: dict[str, Any]) -> None:
    names = [Path(scan).name.removesuffix("_0000.nii.gz") for scan in job["scans"]]
    output = Path(job["output"])
    if all((output / f"{name}.nii.gz").exists() for name in names):
        return
    output.mkdir(parents=True, exist_ok=True)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(job["model"], (job["fold"],))
    predictor.predict_from_files_sequential(
        [[scan] for scan in job["scans"]],
        [str(output / name) for name in names],
        folder_with_segs_from_prev_stage=job["previous"],
    )


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    for job in json.loads(sys.argv[1]):
        predict(job)


if __name__ == "__main__":
    main()
