"""Are estimates of Dice worth anything on scans unlike those of training?

    python -m benchmarks.failure_signs WORK DATASET [--configuration 2d] [--cases 10]

Takes the trained folds of a work folder. The line from soft Dice to Dice is learned from held-out
cases, as they are and spoilt by the shifts of autoseg; then the same folds' other held-out cases
are spoilt by the shifts below, which are of other kinds or strengths, and segmented by the models
that have not seen them. No case serves both. Writes results/failure_signs_CONFIGURATION.json:
Spearman's rank correlation of estimated and true Dice, and errors, by class and by shift. An empty
mask counts as an estimate of 0.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr

from autoseg.dataset.dataset import Case
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.reading import read_case
from autoseg.evaluation.dice_estimates import Observations, calibrate
from autoseg.evaluation.shifts import SHIFTS, shifted
from autoseg.images.volume import Volume
from autoseg.inference.predictor import Predictor
from autoseg.pipeline.calibration import JudgedMask, judge_mask, observations
from autoseg.postprocessing.quality import ClassQuality, QualityModel

RESULTS = Path(__file__).parent / "results"
SEVERE_BELOW = 0.3  # true Dice; without such masks it is harder to rank

Image = NDArray[Any]
Rng = np.random.Generator


def rescaled(scan: Volume, factors_xyz: tuple[float, float, float]) -> Volume:
    """A wrong header: voxels that are said to be larger or smaller than they are."""
    affine = scan.grid.affine_ras_mm.copy()
    affine[:3, :3] *= factors_xyz
    return replace(scan, grid=replace(scan.grid, affine_ras_mm=affine))


def of_image(change: Callable[[Image, Rng], Image]) -> Callable[[Volume, Rng], Volume]:
    def shift(scan: Volume, rng: Rng) -> Volume:
        changed = np.ascontiguousarray(change(scan.array, rng), np.float32)
        return replace(scan, array=changed)

    return shift


def gamma(power: float) -> Callable[[Image, Rng], Image]:
    def change(image: Image, rng: Rng) -> Image:
        low, high = image.min(), image.max()
        curved: Image = low + (high - low) * ((image - low) / (high - low)) ** power
        return curved

    return change


def gap(image: Image, rng: Rng) -> Image:
    """Two fifths of the rows in one piece, without signal."""
    rows = image.shape[2]
    lost = int(0.4 * rows)
    first = int(rng.integers(0, rows - lost + 1))
    changed = image.copy()
    changed[:, :, first : first + lost] = image.min()
    return changed


def bias(image: Image, rng: Rng) -> Image:
    """A field of the coil, from exp(-0.8) on one side to exp(0.8) on the other."""
    changed: Image = image * np.exp(0.8 * np.linspace(-1, 1, image.shape[3]))
    return changed


TEST_SHIFTS: dict[str, Callable[[Volume, Rng], Volume]] = {
    "as it is": lambda scan, rng: scan,
    "noise, 2 standard deviations": of_image(
        lambda i, rng: i + 2 * i.std() * rng.standard_normal(i.shape)
    ),
    "speckle, 0.6": of_image(lambda i, rng: i * (1 + 0.6 * rng.standard_normal(i.shape))),
    "missing rows, 40 % in one piece": of_image(gap),
    "thick slices, 1 of 3": of_image(lambda i, rng: i[:, np.arange(i.shape[1]) // 3 * 3]),
    "inverted": of_image(lambda i, rng: i.max() + i.min() - i),
    "gamma 4": of_image(gamma(4)),
    "gamma 1/4": of_image(gamma(0.25)),
    "blur, 2 voxels in 3D": of_image(lambda i, rng: ndimage.gaussian_filter(i, (0, 2, 2, 2))),
    "motion, 9 voxels": of_image(lambda i, rng: ndimage.uniform_filter1d(i, 9, axis=2)),
    "bias field, 0.8": of_image(bias),
    "spacing 2 times": lambda scan, rng: rescaled(scan, (2, 2, 2)),
    "spacing 0.7 times": lambda scan, rng: rescaled(scan, (0.7, 0.7, 0.7)),
}


@dataclass(frozen=True, slots=True)
class Tested:
    """A spoilt mask: by which shift, and what was expected of it."""

    shift: str
    mask: JudgedMask


def collect(models: list[Path], cases: dict[str, Case], count: int) -> tuple[list[Any], list[Any]]:
    """Masks to learn from, and masks to test on, of all folds."""
    learned: list[JudgedMask] = []
    tested: list[Tested] = []
    for path in models:
        predictor = Predictor.load([path])
        fold = predictor.card.fold or 0
        held_out = predictor.card.held_out
        for case_id, shift in zip(held_out[::2][:count], cycle(SHIFTS), strict=False):
            scan, truth = read_case(cases[case_id])
            spoilt = shifted(scan.array, shift, np.random.default_rng(crc32(case_id.encode())))
            learned.append(judge_mask(predictor, scan, truth, fold, False))
            spoilt_scan = replace(scan, array=spoilt)
            learned.append(judge_mask(predictor, spoilt_scan, truth, fold, True))
        for case_id in held_out[1::2][: max(1, count // 2)]:
            scan, truth = read_case(cases[case_id])
            rng = np.random.default_rng(crc32(case_id.encode()))
            for name, spoil in TEST_SHIFTS.items():
                mask = judge_mask(predictor, spoil(scan, rng), truth, fold, True)
                tested.append(Tested(name, mask))
        print(path, len(learned), len(tested), flush=True)
    return learned, tested


def table(tested: list[Tested], model: QualityModel) -> dict[str, Any]:
    """Statistics by class, and of all classes together."""
    seen = observations([one.mask for one in tested])
    shifts = np.array([one.shift for one in tested])
    result: dict[str, Any] = {}
    everything: list[NDArray[Any]] = []
    for quality in model.classes:
        rows = estimated(quality, seen[quality.name])
        everything.append(rows)
        result[quality.name] = numbers(rows) | {
            "not_empty": numbers(rows[:, rows[4] > 0]),
            "by_shift": {name: numbers(rows[:, shifts == name]) for name in TEST_SHIFTS},
            "without_severe": numbers(rows[:, rows[1] >= SEVERE_BELOW]),
        }
    return result | {"all classes": numbers(np.concatenate(everything, axis=1))}


def estimated(quality: ClassQuality, seen: Observations) -> NDArray[Any]:
    """Estimated and true Dice, the ends of the interval, and soft Dice [5, mask]."""
    soft = np.nan_to_num(seen.expected_dice)
    estimate = np.where(np.isfinite(seen.expected_dice), quality.estimate(soft), 0)
    low, high = quality.interval(estimate)
    return np.stack((estimate, seen.dice, low, high, soft))


def numbers(rows: NDArray[Any]) -> dict[str, float]:
    estimate, dice, low, high, soft = rows
    varies = len(dice) > 2 and np.ptp(dice) > 0 and np.ptp(estimate) > 0
    return {
        "masks": len(dice),
        "empty": int((soft == 0).sum()),
        "true_dice": round(float(dice.mean()), 3),
        "estimated_dice": round(float(estimate.mean()), 3),
        "spearman": round(float(spearmanr(estimate, dice).statistic), 3)
        if varies
        else float("nan"),
        "mean_absolute_error": round(float(np.abs(estimate - dice).mean()), 3),
        "of_soft_dice_as_it_is": round(float(np.abs(soft - dice).mean()), 3),
        "within_90_interval": round(
            float(((dice >= low) & (dice <= high))[soft > 0].mean()) if soft.any() else 0, 3
        ),
    }


def trained(work: Path, configuration: str) -> Iterator[Path]:
    yield from sorted(work.glob(f"models/*/{configuration}/fold_[0-9]/model.safetensors"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--configuration", default="2d")
    parser.add_argument("--cases", type=int, default=10, help="of each fold, to learn from")
    options = parser.parse_args()
    cases = {case.case_id: case for case in open_dataset(options.dataset).cases}
    models = list(trained(options.work, options.configuration))
    learned, tested = collect(models, cases, options.cases)
    model = calibrate(observations(learned))
    assert model is not None, "too few cases to learn from"
    content = {
        "dataset": options.dataset.name,
        "configuration": options.configuration,
        "folds": len(models),
        "model": model.model_dump(mode="json"),
        "test": table(tested, model),
    }
    path = RESULTS / f"failure_signs_{options.configuration}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    for name, row in content["test"].items():
        print(name, {k: v for k, v in row.items() if not isinstance(v, dict)})


if __name__ == "__main__":
    main()
