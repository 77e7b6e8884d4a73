"""Which loss finds small tumours? Equal trainings that differ in their loss alone.

    python -m benchmarks.losses DATASET [--iterations 400] [--folds 0 1 2 3 4] [--seed 0]

Trains in cross-validation with the `cpu` rules, but twice their spacing in plane, so that many
trainings fit into an hour of two cores, and compares Dice and sensitivity of each case of class 1,
predicted in full, with those of cross-entropy and Dice: mean paired differences with 95 % intervals
(Student's t over cases).
"""

import argparse
import json
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from scipy.stats import t as student

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.device import choose_device, machine_of
from autoseg.images.volume import read_labels
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.train import train_fold
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import LossKind, LossPlan
from autoseg.training.metrics_log import SilentListener
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder

RESULTS = Path(__file__).parent / "results"
LOSSES: dict[LossKind, dict[str, float]] = {
    "ce_dice": {},
    "ce_tversky": {"false_positive_weight": 0.3, "false_negative_weight": 0.7},
    "topk_dice": {"top_k_fraction": 0.1},
}
BASELINE: LossKind = "ce_dice"


def smaller(configuration: Configuration) -> Configuration:
    """Twice the spacing in plane."""
    z, y, x = configuration.grid.target_spacing_mm
    grid = configuration.grid.model_copy(update={"target_spacing_mm": (z, 2 * y, 2 * x)})
    return configuration.model_copy(update={"grid": grid})


def train_all(work: WorkFolder, plan_name: str, folds: list[int], options: Any) -> dict[str, Any]:
    """Dice and sensitivity of every held-out case."""
    dataset = open_dataset(Path(work.state().dataset))
    references = {case.case_id: case.label for case in dataset.cases}
    scores = {}
    for fold in folds:
        job = TrainJob(
            fold=fold,
            work=work.root,
            plan=plan_name,
            budget=Budget(iterations=options.iterations),
            seed=options.seed,
        )
        result = train_fold(job, SilentListener(), Event())
        for case_id in work.splits().folds[fold].validation:
            label = references[case_id]
            assert label is not None
            truth = read_labels(label).array == 1
            mask = read_labels(result.folder / "validation" / f"{case_id}.nii.gz").array == 1
            overlap = int((truth & mask).sum())
            scores[case_id] = {
                "dice": 2 * overlap / int(truth.sum() + mask.sum()),
                "sensitivity": overlap / int(truth.sum()),
            }
        print(plan_name, fold, {k: scores[k] for k in scores}, flush=True)
    return scores


def compare(scores: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """Means, and mean paired differences with their intervals."""
    table: dict[str, Any] = {}
    for measure in ("dice", "sensitivity"):
        values = np.array([scores[case][measure] for case in sorted(scores)])
        difference = values - np.array([baseline[case][measure] for case in sorted(scores)])
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        reach = float(student.ppf(0.975, len(difference) - 1) * error)
        mean = float(difference.mean())
        table[measure] = {
            "mean": float(values.mean()),
            "paired_difference": mean,
            "interval_95": [mean - reach, mean + reach],
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "dataset": options.dataset.name,
        "machine": machine_of(choose_device()).model_dump(mode="json"),
        "iterations": options.iterations,
        "folds": options.folds,
        "seed": options.seed,
        "losses": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder))
        job = PlanJob(dataset=options.dataset, work=work.root, target="cpu")
        plan = plan_dataset(job, workers=1).plan
        configuration = smaller(plan.configuration(None))
        result["patch_size_vox"] = configuration.model.patch_size_vox
        result["target_spacing_mm"] = configuration.grid.target_spacing_mm
        cases: dict[LossKind, dict[str, Any]] = {}
        for kind, constants in LOSSES.items():
            loss = LossPlan(
                kind=kind,
                batch_dice=configuration.run.loss.batch_dice,
                dice_smooth=configuration.run.loss.dice_smooth,
                **constants,
            )
            changed = configuration.model_copy(
                update={"run": configuration.run.model_copy(update={"loss": loss})}
            )
            work.save_plan(
                plan.model_copy(
                    update={"name": kind, "configurations": {configuration.name: changed}}
                )
            )
            cases[kind] = train_all(work, kind, options.folds, options)
            result["losses"][kind] = compare(cases[kind], cases[BASELINE]) | {"cases": cases[kind]}
            path = RESULTS / f"losses_{options.dataset.name}.json"
            path.write_text(json.dumps(result, indent=2) + "\n")
            print(kind, compare(cases[kind], cases[BASELINE]), flush=True)


if __name__ == "__main__":
    main()
