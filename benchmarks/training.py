"""Training beside nnU-Net v2: the same network, patch, batch, fold, iterations and machine.

    python -m benchmarks.training PEER_PYTHON FOLDER DATASET PLANS [--seeds 0 1 2] [--rounds 3]

DATASET is in nnU-Net's raw layout, PLANS a plans.json with a plain U-Net in 3d_fullres. FOLDER has
nnU-Net's prepared data and finished trainings, which are not repeated. First both train for a few
iterations in turn, for seconds per iteration; then both train fold 0 once for each seed (nnU-Net
with its trainer of 5 epochs, 1,250 iterations), and the held-out cases are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from scipy.stats import t as student

from autoseg.device import choose_device, machine_of
from autoseg.machine import available_cores
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.train import train_fold
from autoseg.training.metrics_log import EpochSummary, SilentListener
from autoseg.training.schedule import Budget
from autoseg.training.validation import Example
from autoseg.work_folder import WorkFolder

RESULTS = Path(__file__).parent / "results"
PEER = Path(__file__).parent / "peer"
TRAINER, ITERATIONS = "nnUNetTrainer_5epochs", 1250
STEPS, WARM_UP = 25, 5


class Clock(SilentListener):
    """When each iteration ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.ends.append(time.perf_counter())

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        """Nothing to note."""


def plan_as_theirs(dataset: Path, work: WorkFolder, theirs: dict[str, Any]) -> None:
    """A plan by the published rules, with their widths, patch and batch."""
    job = PlanJob(dataset=dataset, work=work.root, rules="nnunet", target="gpu:8")
    plan = plan_dataset(job, workers=1).plan
    planned = theirs["configurations"]["3d_fullres"]
    kwargs = planned["architecture"]["arch_kwargs"]
    configuration = plan.configurations["3d_fullres"]
    stages = tuple(
        stage.model_copy(update={"features": features})
        for stage, features in zip(
            configuration.model.network.stages, kwargs["features_per_stage"], strict=True
        )
    )
    assert [list(stage.stride) for stage in stages] == kwargs["strides"]
    model = {
        "network": configuration.model.network.model_copy(update={"stages": stages}),
        "patch_size_vox": tuple(planned["patch_size"]),
    }
    run = {
        "batch_size": planned["batch_size"],
        "training": configuration.run.training.model_copy(update={"execution": "eager"}),
    }
    changed = configuration.model_copy(
        update={
            "model": configuration.model.model_copy(update=model),
            "run": configuration.run.model_copy(update=run),
        }
    )
    work.save_plan(plan.model_copy(update={"configurations": {"3d_fullres": changed}}))


def train(work: WorkFolder, seed: int, budget: Budget) -> dict[str, Any]:
    """Seconds, iterations, and Dice of each held-out case and class."""
    result = train_fold(_job(work, budget, seed), SilentListener(), Event())
    assert result.evaluation is not None
    cases = {
        case: {label: score["dice"] for label, score in scores.items()}
        for case, scores in result.evaluation.cases.items()
    }
    return {"seconds": result.seconds, "iterations": result.iterations, "cases": cases}


def _job(work: WorkFolder, budget: Budget, seed: int | None = None) -> TrainJob:
    return TrainJob(
        fold=0,
        work=work.root,
        configuration="3d_fullres",
        budget=budget,
        seed=seed,
        start="over",
    )


def step_seconds(work: WorkFolder, options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds per iteration of both, in turn."""
    found: dict[str, list[float]] = {"autoseg": [], "nnunetv2": []}
    for _ in range(options.rounds):
        clock, stop = Clock(), Event()
        stopping = _StopAfter(clock, stop, STEPS)
        train_fold(_job(work, Budget(iterations=STEPS + 1)), stopping, stop)
        found["autoseg"].append(statistics.median(np.diff(clock.ends)[WARM_UP:]))
        words = [options.peer, PEER / "nnunet_steps.py", options.folder, str(STEPS)]
        answer = options.folder / "steps.json"
        answer.unlink(missing_ok=True)
        subprocess.run(
            [*words, str(available_cores())], stdout=subprocess.DEVNULL, start_new_session=True
        )
        found["nnunetv2"].append(statistics.median(json.loads(answer.read_text())[WARM_UP:]))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "rounds": found,
        "medians": medians,
        "times_faster": medians["nnunetv2"] / medians["autoseg"],
    }


class _StopAfter(SilentListener):
    """Passes steps on, and ends the training after some of them."""

    def __init__(self, clock: Clock, stop: Event, steps: int) -> None:
        self.clock, self.stop, self.steps = clock, stop, steps

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.clock.on_step(iteration, fraction, loss)
        if iteration >= self.steps:
            self.stop.set()


def our_scores(work: WorkFolder, seed: int, folder: Path) -> dict[str, Any]:
    done = folder / f"autoseg_{seed}.json"
    if not done.exists():
        done.write_text(json.dumps(train(work, seed, Budget(iterations=ITERATIONS))))
    return dict(json.loads(done.read_text()))


def their_scores(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    done = options.folder / f"result_{seed}.json"
    if not done.exists():
        words = [options.peer, PEER / "nnunet_train.py", options.folder, TRAINER, str(seed)]
        subprocess.run([*words, str(available_cores())], check=True)
    return dict(json.loads(done.read_text()))


def equal_time(work: WorkFolder, options: argparse.Namespace) -> dict[str, Any]:
    """Both trained for as long as their 1,250 iterations take, with the first of the seeds."""
    seed = options.seeds[0]
    theirs = their_scores(seed, options)
    ours = train(work, seed, Budget(seconds=theirs["seconds"]))
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "iterations": ours["iterations"], **compare([ours], [theirs])}


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean Dice of each seed, and the difference of the means over seeds, paired by case."""

    def per_case(runs: list[dict[str, Any]]) -> Any:
        return np.array(
            [
                [np.mean(list(run["cases"][c].values())) for c in sorted(run["cases"])]
                for run in runs
            ]
        )

    a, b = per_case(ours), per_case(theirs)
    difference = a.mean(0) - b.mean(0)
    reach = student.ppf(0.975, len(difference) - 1) * difference.std(ddof=1)
    reach /= np.sqrt(len(difference))
    found = {
        "autoseg_dice": a.mean(1).tolist(),
        "nnunetv2_dice": b.mean(1).tolist(),
        "autoseg_seconds": [run["seconds"] for run in ours],
        "nnunetv2_seconds": [run["seconds"] for run in theirs],
        "mean_difference": float(difference.mean()),
        "interval_95_over_cases": [float(difference.mean() + s * reach) for s in (-1, 1)],
    }
    if len(a) > 1 and len(b) > 1:
        spread = a.mean(1).var(ddof=1) / len(a) + b.mean(1).var(ddof=1) / len(b)
        found["standard_error_over_seeds"] = float(np.sqrt(spread))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("folder", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("plans", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["steps", "time", "accuracy"])
    options = parser.parse_args()
    theirs = json.loads(options.plans.read_text())
    raw = options.folder / "nnUNet_raw" / theirs["dataset_name"]
    raw.parent.mkdir(parents=True, exist_ok=True)
    if not raw.exists():
        raw.symlink_to(options.dataset.resolve())
    (options.folder / "plans.json").write_text(json.dumps(theirs))
    path = RESULTS / "training.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["machine"] = machine_of(choose_device()).model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder))
        plan_as_theirs(options.dataset, work, theirs)
        if "accuracy" in options.parts:
            ours = [our_scores(work, seed, options.folder) for seed in options.seeds]
            peers = [their_scores(seed, options) for seed in options.seeds]
            result["accuracy"] = {
                "cores": len(os.sched_getaffinity(0)),
                "iterations": ITERATIONS,
                **compare(ours, peers),
            }
            print(json.dumps(result["accuracy"], indent=2))
        if "steps" in options.parts:
            result["steps"] = step_seconds(work, options)
            print(json.dumps(result["steps"], indent=2))
        if "time" in options.parts:
            result["equal_time"] = equal_time(work, options)
            print(json.dumps(result["equal_time"], indent=2))
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
