"""Steps a second of nnU-Net v2's own training. Belongs to neighbours.py.

Called with the peer's Python: nnunet_rate.py FOLDER SECONDS THREADS, after nnunet_train.py has
prepared FOLDER. Prints the rate after the first quarter of the time.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
os.environ["nnUNet_raw"] = str(folder / "nnUNet_raw")  # noqa: SIM112
os.environ["nnUNet_preprocessed"] = str(folder / "nnUNet_preprocessed")  # noqa: SIM112
os.environ["nnUNet_results"] = str(folder / "nnUNet_results_rate")  # noqa: SIM112
os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112
os.environ["nnUNet_compile"] = "f"  # noqa: SIM112

import torch  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402


def main() -> None:
    seconds = float(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    (raw,) = (folder / "nnUNet_raw").iterdir()
    plans_name = json.loads((folder / "plans.json").read_text())["plans_name"]
    with contextlib.redirect_stdout(sys.stderr):
        trainer = get_trainer_from_args(
            raw.name, "3d_fullres", 0, "nnUNetTrainer", plans_name, device=torch.device("cpu")
        )
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        ends: list[float] = []
        while not ends or ends[-1] - ends[0] < seconds:
            trainer.train_step(next(trainer.dataloader_train))
            ends.append(time.monotonic())
    late = [end for end in ends if end - ends[0] > seconds / 4]
    print((len(late) - 1) / (late[-1] - late[0]), flush=True)
    for process in multiprocessing.active_children():  # of augmentation, which do not end
        process.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
