"""Objects that touch: a border against a learned depth, for equal minutes, and skimage's watershed.

    python -m benchmarks.objects DATASET WORK --minutes 2

DATASET has `images/` and `instances/`. Fold 0 is trained with each task and predicted; scores are
those of its held-out images. The floor is skimage's watershed of the border model's mask.
Numbers of the watershed use the same mask as the border's, so that only the parting differs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.feature import peak_local_max
from skimage.io import imread
from skimage.segmentation import watershed

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
SHOWN = (0.5, 0.75, 0.9)
TASKS = {"border": "semantic", "distance": "distance"}

Numbers = NDArray[np.integer[Any]]


@dataclass(slots=True)
class Tally:
    """What was found and missed over all images, by threshold of IoU."""

    scores: list[float] = field(default_factory=list)  # [found]
    ious: list[float] = field(default_factory=list)  # [found] with the object it is matched to
    truths: int = 0

    def add(self, truth: Numbers, found: Numbers, scores: dict[int, float]) -> None:
        iou = overlaps(truth, found)  # [truth, found]
        rows, columns = linear_sum_assignment(-iou)
        best = np.zeros(iou.shape[1])
        best[columns] = iou[rows, columns]
        self.truths += len(iou)
        self.ious += best.tolist()
        self.scores += [scores.get(number, 1.0) for number in range(1, iou.shape[1] + 1)]

    def figures(self) -> dict[str, float]:
        ious = np.array(self.ious)
        hit = [(ious >= threshold - 1e-9).sum() for threshold in THRESHOLDS]
        every = len(ious) + self.truths
        matched = ious[ious > 0.5]
        shown = {
            f"Jaccard@{t}": hit[int(np.argmin(abs(THRESHOLDS - t)))] for t in SHOWN
        }  # objects hit, of all there are
        precision = [self._average_precision(threshold) for threshold in THRESHOLDS]
        return {
            "AP@0.5": precision[0],
            "AP": float(np.mean(precision)),
            **{name: float(hits / (every - hits)) for name, hits in shown.items()},
            "PQ": float(matched.sum() / (every / 2)),
        }

    def _average_precision(self, threshold: float) -> float:
        """COCO's: the mean over 101 recalls of the best precision at or beyond each."""
        order = np.argsort(-np.array(self.scores), kind="stable")
        right = np.array(self.ious)[order] >= threshold - 1e-9
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        recall = np.cumsum(right) / max(1, self.truths)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        return float(np.append(best, 0)[np.minimum(place, len(best))].mean())


def overlaps(truth: Numbers, found: Numbers) -> NDArray[np.float64]:
    """IoU of each object numbered from 1 with each that was found [truth, found]."""
    _, truth = np.unique(truth, return_inverse=True)
    truth = truth.reshape(found.shape)
    counts = int(truth.max()) + 1, int(found.max()) + 1
    joint = np.bincount((truth * counts[1] + found).ravel(), minlength=counts[0] * counts[1])
    joint = joint.reshape(counts)
    union = joint.sum(1)[:, None] + joint.sum(0)[None] - joint
    return (joint / np.maximum(1, union))[1:, 1:]


def by_watershed(mask: NDArray[np.bool_]) -> Numbers:
    """skimage's own example: markers at maxima of the distance, at least 5 pixels apart."""
    distance = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=5, labels=ndimage.label(mask)[0])
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parted: Numbers = watershed(-distance, markers, mask=mask)
    return parted


def train(dataset: Path, work: Path, task: str, minutes: float) -> None:
    rules = work / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    (rules / "ruleset.toml").write_text('title = "one task"\nextends = "cpu"\n')
    (rules / "task.toml").write_text(
        f'[[rule]]\nid = "task.benchmark"\ndecides = "task"\nvalue = "{TASKS[task]}"\n'
        'because = "to be compared"\nsource = "benchmarks/objects.py"\n'
    )
    autoseg("plan", dataset, "--work", work, "--rules", rules)
    autoseg("train", "--work", work, "--fold", "0", "--minutes", minutes)


def autoseg(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "autoseg", *map(str, arguments)], check=True)


def held_out(work: Path) -> list[str]:
    content = json.loads((work / "splits.json").read_text())
    first = content["folds"][0] if isinstance(content, dict) else content[0]
    return list(first.get("validation") or first.get("val"))


def predict(dataset: Path, work: Path, cases: list[str]) -> float:
    """Processor-independent seconds an image, the program's start included."""
    scans = [next((dataset / "images").glob(f"{case}.*")) for case in cases]
    started = time.monotonic()
    autoseg("predict", *scans, work / "out", "--work", work, "--overwrite")
    return (time.monotonic() - started) / len(cases)


def score(
    dataset: Path, cases: list[str], found_of: Callable[[str], tuple[Numbers, dict[int, float]]]
) -> dict[str, float]:
    tally = Tally()
    for case in cases:
        truth = imread(next((dataset / "instances").glob(f"{case}.*")))
        tally.add(truth, *found_of(case))
    return tally.figures()


def written(folder: Path, case: str) -> tuple[Numbers, dict[int, float]]:
    numbers = plane(folder / "instances" / f"{case}.nii.gz").astype(np.int64)
    objects = json.loads((folder / "instances" / f"{case}.json").read_text())
    return numbers, {one["number"]: one["score"] for one in objects}


def plane(path: Path) -> Numbers:
    """A slice [y, x] of a file, which has it as [x, y, 1]."""
    values: Numbers = np.asarray(nib.load(path).dataobj).squeeze().T
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--task", choices=tuple(TASKS), nargs="+", default=tuple(TASKS))
    options = parser.parse_args()
    for task in options.task:
        work = options.work / task
        if not list(work.glob("models/*/*/fold_0/model.safetensors")):
            train(options.dataset, work, task, options.minutes)
        cases = held_out(work)
        seconds = predict(options.dataset, work, cases)
        out = work / "out"
        figures = {task: score(options.dataset, cases, lambda case, out=out: written(out, case))}
        if task == "border":
            figures["watershed"] = score(
                options.dataset,
                cases,
                lambda case, out=out: (by_watershed(plane(out / f"{case}.nii.gz") > 0), {}),
            )
        for name, values in figures.items():
            shown = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
            print(f"{name:10} {shown}  {seconds:.2f} s an image", flush=True)


if __name__ == "__main__":
    main()
