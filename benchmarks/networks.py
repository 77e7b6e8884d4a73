"""Every network trained for the same processor time on the same fold of the same data.

    python -m benchmarks.networks WORK DATASET... [--minutes 30] [--only plain residual fcn ...]

Each data set has a work folder in WORK, whose folds, augmentation and machine all networks share.
Fold 0 of each is planned, trained and scored by the command line, for as many iterations as take
so many minutes of processor time in forward and backward passes: 30 are 15 minutes of two cores of
one's own, and other work beside it changes nothing. Of each network: Dice of the held-out cases
with its 95 % interval, iterations, processor seconds of a step, MB of memory at the most, and Dice
a minute of processor time. What is trained already is not trained again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autoseg.checkpoint import build_network
from autoseg.device import choose_device, hardware_of
from autoseg.evaluation.evaluation import Evaluation
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.run_plan import Execution
from autoseg.records import load_record
from autoseg.training.execution import STEPS, Trial
from autoseg.work_folder import FoldFolder, WorkFolder

RESULTS = Path(__file__).parent / "results" / "networks.json"
NETWORKS: dict[str, tuple[str, ...]] = {
    "plain": ("--rules", "cpu"),
    "residual": ("--rules", "cpu", "--set", "model.network.kind=residual_unet"),
    **{name: ("--rules", name) for name in ("fcn", "deeplab", "segformer", "mednext")},
}


@dataclass(frozen=True, slots=True)
class Used:
    """What a program took; of memory, what its largest process had."""

    wall_s: float
    processor_s: float
    peak_mb: float


def autoseg(*arguments: object) -> Used:
    """Run the command line. Raises SystemExit where it fails."""
    started = time.monotonic()
    command = [sys.executable, "-m", "autoseg", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed.")
    wall_s = time.monotonic() - started
    return Used(wall_s, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss / 1e6)


def trained(dataset: Path, work: Path, name: str, minutes: float) -> dict[str, Any]:
    """A row of the table."""
    place = ("--work", work)
    autoseg("plan", dataset, *NETWORKS[name], "--name", name, "--for", "cpu", *place)
    autoseg("prepare", "--plan", name, *place)
    folder = WorkFolder(work)
    plan = folder.plan(name)
    step_s = step_processor_s(plan.configurations[plan.recommended])
    iterations = round(60 * minutes / step_s)
    used = autoseg("train", "--plan", name, "--fold", 0, "--iterations", iterations, *place)
    fold = folder.fold(name, plan.recommended, 0)
    return row(plan, fold, used) | {"iterations": iterations, "processor_s_a_step": step_s}


def step_processor_s(configuration: Configuration) -> float:
    """Processor seconds of a forward and a backward pass, of the faster layout in memory."""
    model = configuration.model
    network = build_network(model).train()
    channels = len(model.channel_names)
    image = torch.randn(configuration.run.batch_size, channels, *model.patch_size_vox)
    trial = Trial(network, model.network, image, choose_device("cpu"))
    layouts: tuple[Execution, ...] = ("eager", "channels_last")
    return min(_processor_s(trial, layout) for layout in layouts)


def _processor_s(trial: Trial, layout: Execution) -> float:
    trial.seconds(layout)
    started = time.process_time()
    trial.seconds(layout)
    return (time.process_time() - started) / STEPS


def row(plan: Plan, fold: FoldFolder, used: Used) -> dict[str, Any]:
    configuration = plan.configurations[plan.recommended]
    dice = load_record(Evaluation, fold.summary).mean_statistics["dice"]
    return {
        "network": configuration.model.network.kind,
        "configuration": plan.recommended,
        "patch_vox": configuration.model.patch_size_vox,
        "batch": configuration.run.batch_size,
        "dice": dice.mean,
        "dice_interval_95": dice.interval_95,
        "peak_mb": used.peak_mb,
        "processor_minutes": used.processor_s / 60,
        "dice_a_processor_minute": (dice.mean or 0) / (used.processor_s / 60),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=30, help="of a processor")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # for the time of a step: threads that wait for others would count
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content["machine"] = hardware_of(choose_device("cpu"))
    for dataset in options.datasets:
        rows = content.setdefault(f"{dataset.name}, {options.minutes:g} processor minutes", {})
        for name in options.only:
            if name not in rows:
                rows[name] = trained(dataset, options.work / dataset.name, name, options.minutes)
                RESULTS.write_text(json.dumps(content, indent=2) + "\n")
            print(dataset.name, name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
