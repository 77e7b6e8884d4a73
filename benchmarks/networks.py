"""Every network trained for the same minutes on the same fold of the same data.

    python -m benchmarks.networks WORK DATASET... [--minutes 15] [--only plain residual fcn ...]

Each data set has a work folder in WORK, whose folds, augmentation and machine all networks share.
Fold 0 of each is planned, trained and scored by the command line. Of each network: Dice of the
held-out cases with its 95 % interval, iterations, seconds of a step, MB of memory at the most, and
Dice a minute of processor time. What is trained already is not trained again.
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

from autoseg.device import choose_device, hardware_of
from autoseg.evaluation.evaluation import Evaluation
from autoseg.planning.plan import Plan
from autoseg.records import load_record
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
    used = autoseg("train", "--plan", name, "--fold", 0, "--minutes", minutes, *place)
    folder = WorkFolder(work)
    plan = folder.plan(name)
    return row(plan, folder.fold(name, plan.recommended, 0), used)


def row(plan: Plan, fold: FoldFolder, used: Used) -> dict[str, Any]:
    configuration = plan.configurations[plan.recommended]
    lines = [json.loads(line) for line in fold.metrics.read_text().splitlines()]
    iterations, elapsed_s = lines[-1]["iteration"], lines[-1]["elapsed_s"]
    dice = load_record(Evaluation, fold.summary).mean_statistics["dice"]
    return {
        "network": configuration.model.network.kind,
        "configuration": plan.recommended,
        "patch_vox": configuration.model.patch_size_vox,
        "batch": configuration.run.batch_size,
        "dice": dice.mean,
        "dice_interval_95": dice.interval_95,
        "iterations": iterations,
        "seconds_a_step": elapsed_s / iterations,
        "peak_mb": used.peak_mb,
        "processor_minutes": used.processor_s / 60,
        "dice_a_processor_minute": (dice.mean or 0) / (used.processor_s / 60),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content["machine"] = hardware_of(choose_device("cpu"))
    for dataset in options.datasets:
        rows = content.setdefault(f"{dataset.name}, {options.minutes:g} minutes", {})
        for name in options.only:
            if name not in rows:
                rows[name] = trained(dataset, options.work / dataset.name, name, options.minutes)
                RESULTS.write_text(json.dumps(content, indent=2) + "\n")
            print(dataset.name, name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
