"""Does keeping prepared images in half precision cost accuracy? Equal trainings with either.

    python -m benchmarks.half_precision DATASET [--iterations 800] [--seeds 0 1]

Trains fold 0 with the `cpu` rules on prepared images in single and in half precision, with equal
seeds, and prints the mean Dice of the held-out cases, and the paired differences per case.
"""

import argparse
import json
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

import autoseg.preprocessing.store as store
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.pipeline.train import train_fold
from autoseg.training.metrics_log import SilentListener
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder

RESULTS = Path(__file__).parent / "results"
SMALLER = store._smaller


def scores(dataset: Path, half: bool, seed: int, iterations: int) -> list[float]:
    """Mean Dice of each held-out case."""
    store._smaller = SMALLER if half else lambda image: image
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder))
        plan_dataset(PlanJob(dataset=dataset, work=work.root, target="cpu"), workers=1)
        prepare(work, None, [], Resources(1))  # in this process, where the switch is set
        job = TrainJob(fold=0, work=work.root, budget=Budget(iterations=iterations), seed=seed)
        result = train_fold(job, SilentListener(), Event())
    assert result.evaluation is not None
    return [
        float(np.mean([score["dice"] for score in case.values() if score["dice"] is not None]))
        for case in result.evaluation.cases.values()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--iterations", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    table: dict[str, dict[str, Any]] = {}
    for seed in options.seeds:
        single = scores(options.dataset, False, seed, options.iterations)
        half = scores(options.dataset, True, seed, options.iterations)
        difference = np.array(half) - np.array(single)
        error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        table[f"seed {seed}"] = {
            "iterations": options.iterations,
            "single": float(np.mean(single)),
            "half": float(np.mean(half)),
            "paired_difference": float(difference.mean()),
            "interval_95": [float(difference.mean() + s * 1.96 * error) for s in (-1, 1)],
        }
        print(seed, table[f"seed {seed}"], flush=True)
    content = {"dataset": options.dataset.name, "runs": table}
    (RESULTS / "half_precision.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
