"""Trainings of fold 0 that take the same time of a processor, whatever else the machine does.

    python -m benchmarks.equal_time WORK PLAN

is how `iterations_in` asks for the processor seconds of a step: forward, loss, backward, optimiser
and augmentation, in all threads of the training's process. Those that read patches are left out;
they take little.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from autoseg.device import choose_device, hardware_of
from autoseg.evaluation.evaluation import Evaluation
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.train import train_fold
from autoseg.planning.plan import Plan
from autoseg.records import load_record, replacing
from autoseg.training.metrics_log import SilentListener
from autoseg.work_folder import FoldFolder, WorkFolder

WARM_UP, LEAST_STEPS, LEAST_S = 8, 12, 45  # of a processor
PARTS = 6  # of what is timed: the median of their means, since other work slows some


@dataclass(frozen=True, slots=True)
class Used:
    """What a program took; of memory, what its largest process had."""

    processor_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """A plan by its name, how it is made, the seed of its training, and what is set by hand."""

    name: str
    plan: Sequence[str]
    seed: int = 0
    set: Sequence[str] = ()


class Ticks(SilentListener):
    """A listener that notes the processor's time as steps end, and stops after some."""

    def __init__(self) -> None:
        self.ends, self.stop = list[float](), Event()

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.ends.append(time.process_time())
        timed = self.ends[WARM_UP:]
        if len(timed) > LEAST_STEPS and timed[-1] - timed[0] > LEAST_S:
            self.stop.set()


def autoseg(*arguments: object) -> Used:
    """Run the command line. Raises SystemExit where it fails."""
    command = [sys.executable, "-m", "autoseg", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed.")
    return Used(used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss / 1e6)


def iterations_in(minutes: float, work: Path, plan: str) -> int:
    """Iterations of a prepared plan's fold 0 that take so many minutes of a processor.

    Leaves a training of a few steps behind, to be overwritten.
    """
    command = [sys.executable, "-m", "benchmarks.equal_time", str(work), plan]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return round(60 * minutes / float(said.split()[-1]))


def trained(dataset: Path, work: Path, one: Contestant, minutes: float) -> dict[str, Any]:
    """A row of a table: how well the held-out cases are found, and what that took."""
    place = ("--work", work)
    chosen = ("--set", *one.set) if one.set else ()
    autoseg("plan", dataset, *one.plan, *chosen, "--name", one.name, "--for", "cpu", *place)
    autoseg("prepare", "--plan", one.name, *place)
    folder = WorkFolder(work)
    plan = folder.plan(one.name)
    iterations = iterations_in(minutes, work, one.name)
    length = ("--iterations", iterations, "--seed", one.seed, "--overwrite")
    used = autoseg("train", "--plan", one.name, "--fold", 0, *length, *place)
    found = row(plan, folder.fold(one.name, plan.recommended, 0), used)
    return found | {
        "iterations": iterations,
        "processor_s_a_step": 60 * minutes / iterations,
        "machine": machine(),
    }


def row(plan: Plan, fold: FoldFolder, used: Used) -> dict[str, Any]:
    configuration = plan.configurations[plan.recommended]
    summary = load_record(Evaluation, fold.summary)
    dice = summary.mean_statistics["dice"]
    return {
        "network": configuration.model.network.kind,
        "configuration": plan.recommended,
        "patch_vox": configuration.model.patch_size_vox,
        "batch": configuration.run.batch_size,
        "dice": dice.mean,
        "dice_of_classes": {
            summary.names.get(key, key): of_class["dice"].mean
            for key, of_class in summary.statistics.items()
        },
        "dice_interval_95": dice.interval_95,
        "peak_mb": used.peak_mb,
        "processor_minutes": used.processor_s / 60,
        "dice_a_processor_minute": (dice.mean or 0) / (used.processor_s / 60),
    }


def kept(
    results: Path, dataset: Path, work: Path, one: Contestant, minutes: float
) -> dict[str, Any]:
    """The row of a table in a file, trained unless it is there; others may write to it too."""
    title = ", ".join((dataset.name, f"{minutes:g} processor minutes", *one.set))
    key = one.name if one.seed == 0 else f"{one.name}, seed {one.seed}"
    found: dict[str, Any] | None = _written(results).get(title, {}).get(key)
    if found is None:
        found = trained(dataset, work / dataset.name, one, minutes)
        with alone():
            content = _written(results)
            content.setdefault(title, {})[key] = found
            with replacing(results) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")
    print(title, key, json.dumps(found), flush=True)
    return found


def machine() -> str:
    """What is measured on, and the precision that its processor is quick in."""
    device = choose_device("cpu")
    return f"{hardware_of(device)}, {device.precision}"


@contextmanager
def alone() -> Iterator[None]:
    """Of the programs that run beside each other and write results, one at a time."""
    with Path(__file__).open() as lock:
        flock(lock, LOCK_EX)
        yield


def _written(results: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    return content


def main() -> None:
    work, plan = Path(sys.argv[1]), sys.argv[2]
    ticks = Ticks()
    job = TrainJob(fold=0, work=work, plan=plan, device="cpu", start="over")
    train_fold(job, ticks, ticks.stop)
    parts = np.array_split(np.diff(ticks.ends[WARM_UP:]), PARTS)
    print(np.median([part.mean() for part in parts]))


if __name__ == "__main__":
    main()
