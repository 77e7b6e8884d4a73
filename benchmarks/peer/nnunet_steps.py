"""Seconds of nnU-Net v2's own training iterations. Belongs to training.py.

Called with the peer's Python: nnunet_steps.py FOLDER ITERATIONS THREADS, after nnunet_train.py has
prepared FOLDER, in a session of its own, which it ends by killing it. Writes FOLDER/steps.json:
seconds of each iteration, drawing the batch included.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
os.environ["nnUNet_raw"] = str(folder / "nnUNet_raw")  # noqa: SIM112
os.environ["nnUNet_preprocessed"] = str(folder / "nnUNet_preprocessed")  # noqa: SIM112
os.environ["nnUNet_results"] = str(folder / "nnUNet_results_steps")  # noqa: SIM112
os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112
os.environ["nnUNet_compile"] = "f"  # noqa: SIM112

import torch  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402


def main() -> None:
    torch.set_num_threads(int(sys.argv[3]))
    (raw,) = (folder / "nnUNet_raw").iterdir()
    plans_name = json.loads((folder / "plans.json").read_text())["plans_name"]
    with contextlib.redirect_stdout(sys.stderr):
        trainer = get_trainer_from_args(
            raw.name, "3d_fullres", 0, "nnUNetTrainer", plans_name, device=torch.device("cpu")
        )
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        seconds = []
        for _ in range(int(sys.argv[2])):
            started = time.perf_counter()
            trainer.train_step(next(trainer.dataloader_train))
            seconds.append(time.perf_counter() - started)
    (folder / "steps.json").write_text(json.dumps(seconds))
    os.killpg(0, signal.SIGKILL)  # its augmentation processes do not end by themselves


if __name__ == "__main__":
    main()
