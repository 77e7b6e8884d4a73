"""How soon a training of the pack's data is good: patches while it goes, whole cases at its end."""

import time
from statistics import fmean
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.preprocessing.store import open_case
from autoseg.training.metrics_log import EpochSummary
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder
from benchmarks.gpu.part import Bench
from benchmarks.gpu.scans import predictor_of, segment
from benchmarks.gpu.trainings import Watch, chosen_runs, train

SECONDS, SMALL_SECONDS = 60.0, 2.0
WELL = 0.89


def measure(bench: Bench) -> None:
    seconds = SMALL_SECONDS if bench.small else SECONDS
    work = bench.work("work", **({"validation_iterations": 1} if bench.small else {}))
    started, watch = time.perf_counter(), Watch()
    cache = work.root / "cache"
    done = train(work, bench.device, Budget(seconds=seconds), watch, Event(), cache=cache)
    epochs = [(round(e.elapsed_s / 60, 3), mean_dice(e)) for e in watch.epochs]
    reached = (minutes for minutes, dice in epochs if dice is not None and dice >= WELL)
    bench.note(
        trained_s=round(done.seconds, 1),
        with_all_else_s=round(time.perf_counter() - started, 1),
        iterations=done.iterations,
        chosen=chosen_runs(cache),
        minutes_and_patch_dice=epochs,
        minutes_to_well=next(reached, None),
    )
    bench.note(**whole_cases(bench, work, done.folder / "model.safetensors"))


def mean_dice(epoch: EpochSummary) -> float | None:
    found = [value for value in epoch.patch_dice.values() if value is not None]
    return round(fmean(found), 4) if found else None


def whole_cases(bench: Bench, work: WorkFolder, model: Any) -> dict[str, Any]:
    """Mean Dice of the held-out cases on the plan's grid, whose scans are not there."""
    held_out = work.splits().folds[0].validation[: 2 if bench.small else None]
    paths = {path.stem: path for path in work.root.rglob("*.prepared")}
    predictor = predictor_of(model, bench.device)
    started, scores = time.perf_counter(), []
    for case_id in held_out:
        case = open_case(paths[case_id]).loaded()
        found = segment(predictor, case.image.astype(np.float32)).classes
        scores.append(dice_of_classes(found, case.label))
    return {
        "held_out_cases": len(scores),
        "dice_of_whole_cases": round(fmean(fmean(each) for each in scores), 4),
        "seconds_per_case": round((time.perf_counter() - started) / len(scores), 3),
    }


def dice_of_classes(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> list[float]:
    """Of every foreground class of the truth."""
    each = []
    for index in range(1, int(truth.max()) + 1):
        a, b = found == index, truth == index
        each.append(float(2 * np.sum(a & b) / max(1, a.sum() + b.sum())))
    return each
