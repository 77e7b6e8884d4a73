"""How much of a quiet CPU's training rate is left beside other work, and nnU-Net's beside it.

    python -m benchmarks.neighbours DATASET FOLDER [--peer PEER_PYTHON PEER_FOLDER] [--seconds 60]

Trains on a small data set for some seconds each time: alone, beside a process that keeps one core
busy, twice at once, on a single core, and with a container's limit of one core's time; with threads
that follow the cores that are free, and with as many as there are cores. Rates are steps a second
after the first quarter of the time. The peer's steps are timed alike, of what benchmarks.training
prepared in PEER_FOLDER. The limit is set as container engines do, which needs root and cgroups of
the first version; else it is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from autoseg import device
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.train import train_fold

RESULTS = Path(__file__).parent / "results"
PEER = Path(__file__).parent / "peer"
BUSY = [sys.executable, "-c", "while True: pass"]
THREADS = ("follow", "fixed")
CPU = Path("/sys/fs/cgroup/cpu")
LIMITED = CPU / "autoseg_one_core"
PERIOD_US = 100_000


class Stopwatch:
    """A listener of a training that notes when steps end, and stops it after some time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends, self.stop = seconds, list[float](), Event()

    def on_message(self, text: str) -> None: ...

    def on_epoch(self, summary: Any, examples: Any) -> None: ...

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.ends.append(time.monotonic())
        if self.ends[-1] - self.ends[0] > self.seconds:
            self.stop.set()


def rate_of(ends: list[float], seconds: float) -> float:
    """Steps a second after the first quarter of the time."""
    late = [end for end in ends if end - ends[0] > seconds / 4]
    return (len(late) - 1) / (late[-1] - late[0])


def train_one(work: Path, fold: int, seconds: float, threads: str) -> float:
    if threads == "fixed":
        device.THREADS_INTERVAL_S = float("inf")
    watch = Stopwatch(seconds)
    job = TrainJob(fold=fold, work=work, device="cpu", start="over")
    train_fold(job, watch, watch.stop)
    return rate_of(watch.ends, seconds)


@contextmanager
def neighbour(command: list[str] | None) -> Iterator[None]:
    """Another program beside what is measured."""
    if command is None:
        yield
        return
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        yield
        other.kill()


def ours(options: argparse.Namespace, threads: str, fold: int, cores: set[int]) -> list[str]:
    own = ["--one", threads, "--fold", str(fold), "--seconds", str(options.seconds)]
    return [*on_cores(cores), sys.executable, "-m", "benchmarks.neighbours",
            str(options.dataset), str(options.folder), *own]  # fmt: skip


def peers(options: argparse.Namespace, cores: set[int]) -> list[str]:
    python, folder = options.peer
    seconds = str(options.seconds)
    script = str(PEER / "nnunet_rate.py")
    return [*on_cores(cores), python, script, folder, seconds, str(len(cores))]


def on_cores(cores: set[int]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


def limited(command: list[str]) -> list[str] | None:
    """The command in a group that has the time of one core, and sees no other group; None where
    groups cannot be made."""
    try:
        subprocess.run(["unshare", "--mount", "true"], check=True)
        LIMITED.mkdir(exist_ok=True)
        for name in ("period", "quota"):
            (LIMITED / f"cpu.cfs_{name}_us").write_text(str(PERIOD_US))
    except (OSError, subprocess.CalledProcessError):
        return None
    enter = f'echo $$ > {LIMITED}/cgroup.procs && mount --bind {LIMITED} {CPU} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", enter, "sh", *command]


def run_all(commands: list[list[str]]) -> list[float]:
    """Rates of trainings that run at once."""
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    said = [process.communicate()[0] for process in running]
    return [float(text.split()[-1]) for text in said]


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    every = os.sched_getaffinity(0)
    one = {min(every)}
    found: dict[str, dict[str, list[float]]] = {}
    kinds: list[str] = [*THREADS, *(["nnunetv2"] if options.peer else [])]

    def command(kind: str, fold: int = 0, cores: set[int] = every) -> list[str]:
        return peers(options, cores) if kind == "nnunetv2" else ours(options, kind, fold, cores)

    for kind in kinds:
        rates = found[kind] = {}
        rates["quiet"] = run_all([command(kind)])
        with neighbour(BUSY):
            rates["beside a busy process"] = run_all([command(kind)])
        if kind != "nnunetv2":  # whose two trainings would write to one folder
            rates["two trainings"] = run_all([command(kind, 0), command(kind, 1)])
        rates["on one core"] = run_all([command(kind, 0, one)])
        if (inside := limited(command(kind))) is not None:
            rates["in a container of one core"] = run_all([inside])
            LIMITED.rmdir()
        print(kind, {name: [round(r, 3) for r in rates[name]] for name in rates}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "FOLDER"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--one", choices=THREADS, help=argparse.SUPPRESS)
    parser.add_argument("--fold", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(train_one(options.folder, options.fold, options.seconds, options.one))
        return
    if not options.folder.exists():
        plan_dataset(PlanJob(dataset=options.dataset, work=options.folder), 2)
        for fold in (0, 1):  # prepares what they need
            train_one(options.folder, fold, 1, "fixed")
    found = measure(options)
    shares = {
        kind: {
            name: round(sum(rates) / found[kind]["quiet"][0], 3)
            for name, rates in found[kind].items()
        }
        for kind in found
    }
    print(json.dumps(shares, indent=2))
    result = {"steps_per_s": found, "share_of_quiet": shares}
    RESULTS.joinpath("neighbours.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
