"""Objects that touch, found by each network for objects, trained for the same processor time.

    python -m benchmarks.objects DATASET WORK [--minutes 30] [--set patch_size_vox=128,128 ...]

DATASET has `images/` and `instances/`, as nuclei, or what `benchmarks.ellipsoids` makes; or it is
nnU-Net's with one class, a thing of its dataset.json, whose components are objects, and of which
`border` learns no more than the mask. Fold 0 is trained with each task, for so many minutes of a
processor or for equal `--iterations`; scores are those of its held-out images, as training writes
them. The floor is a watershed of the border model's mask, so that only the parting differs. A
scan's processor seconds are those that more scans take of `autoseg predict` on top of one, with
writing. Programs with different tasks may run beside each other. Results are put into
benchmarks/results/objects.json under the dataset's name and the length.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from autoseg.evaluation.detection import COCO, Detections, average_precision, detections_of, froc
from autoseg.evaluation.mask_pair import MapPair
from autoseg.images.volume import read_labels
from autoseg.records import replacing
from autoseg.work_folder import WorkFolder
from benchmarks.equal_time import Used, alone, autoseg, iterations_in, machine

RESULTS = Path(__file__).parent / "results" / "objects.json"
PREDICTED = 16  # scans, in all of which one
SHOWN = (0.5, 0.75, 0.9)
IMAGES = ("imagesTr", "images")  # nnU-Net's folder, and ours


@dataclass(frozen=True, slots=True)
class Answer:
    """A task, the rules that plan it, what changes of their network, and settings of the plan."""

    task: str
    rules: str = "cpu"
    network: str = ""
    settings: tuple[str, ...] = ()


ANSWERS = {
    "border": Answer("semantic"),
    "distance": Answer("distance"),
    "flow": Answer("flow", "flow"),
    "mask_queries": Answer("mask_queries", "mask_queries"),
    "maskformer": Answer("mask_queries", "maskformer"),
    "mask_rcnn": Answer("boxes", "mask_rcnn"),
    "cascade": Answer("boxes", "mask_rcnn", "steps = 3"),
    "point_rend": Answer("boxes", "mask_rcnn", "point_rend = true"),
    "panoptic_fpn": Answer("boxes", "mask_rcnn", settings=("network.dense_classes=[0]",)),
    "solov2": Answer("solov2", "solov2"),
    "yolact": Answer("yolact", "yolact"),
}

Numbers = NDArray[np.integer[Any]]


@dataclass(slots=True)
class Tally:
    """What was found and missed over all images: `autoseg evaluate` matches objects, and all that
    are found count, where COCO counts a hundred an image."""

    scans: list[Detections] = field(default_factory=list)

    def add(self, truth: Numbers, found: Numbers, scores: dict[int, float]) -> None:
        table = np.array([scores.get(number, 1.0) for number in range(int(found.max()) + 1)])
        masks = [(numbers != 0).astype(np.uint8) for numbers in (found, truth)]
        maps = MapPair(
            masks[0],
            masks[1],
            None,
            (1.0, 1.0, 1.0),
            predicted_ids=found,
            reference_ids=truth,
            predicted_scores=table if scores else None,
        )
        self.scans += [detections_of(pair) for _, pair in maps.masks({"object": (1,)})]

    def figures(self) -> dict[str, float]:
        ious = np.concatenate([scan.ious for scan in self.scans])
        every = len(ious) + self._truths
        hit = {f"Jaccard@{t}": int((ious >= t).sum()) for t in SHOWN}  # of all there are
        precision = [self._average_precision(threshold) for threshold in COCO.ious]
        return {
            "AP@0.5": precision[0],
            "AP": float(np.mean(precision)),
            "AP@0.1": self._average_precision(0.1),
            **({"FROC": curve.mean} if (curve := froc(self.scans)) else {}),
            **{name: hits / (every - hits) for name, hits in hit.items()},
            "PQ": float(ious[ious > 0.5].sum() / (every / 2)),
        }

    @property
    def _truths(self) -> int:
        return sum(len(scan.found_at) for scan in self.scans)

    def _average_precision(self, threshold: float) -> float:
        every = max(len(scan.ious) for scan in self.scans)
        once = np.ones((1, len(self.scans)))
        return float(average_precision(self.scans, once, threshold, every)[0])


def by_watershed(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Numbers:
    """Markers are maxima of the distance in mm, five of the finest voxels apart; of those that are
    nearer the highest, as skimage's own example does in pixels."""
    wide = [mm for mm, size in zip(spacing_mm, mask.shape, strict=True) if size > 1]
    flat = mask.squeeze()
    distance = ndimage.distance_transform_edt(flat, sampling=wide)
    peaks = peak_local_max(distance, min_distance=1, labels=ndimage.label(flat)[0])
    peaks = peaks[np.argsort(-distance[tuple(peaks.T)], kind="stable")]
    kept: list[NDArray[Any]] = []
    for peak in peaks * np.array(wide):
        if all(np.linalg.norm(peak - other) > 5 * min(wide) for other in kept):
            kept.append(peak)
    markers = np.zeros(flat.shape, int)
    places = np.rint(np.array(kept).reshape(-1, len(wide)) / wide).astype(int)
    markers[tuple(places.T)] = np.arange(1, len(kept) + 1)
    parted: Numbers = watershed(-distance, markers, mask=flat)
    return parted.reshape(mask.shape)


def settings_of(task: str, options: Any) -> list[str]:
    return [*ANSWERS[task].settings, *options.set]


def train(dataset: Path, work: Path, task: str, options: Any) -> tuple[int, Used]:
    """Iterations that were made, and what training took."""
    rules = work / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    answer = ANSWERS[task]
    (rules / "ruleset.toml").write_text(f'title = "one task"\nextends = "{answer.rules}"\n')
    decided = {"task": f'value = "{answer.task}"'}
    if answer.network:
        decided["network"] = f"changes = {{ {answer.network} }}"
    (rules / "benchmark.toml").write_text(
        "".join(
            f'[[rule]]\nid = "benchmark.{name}"\ndecides = "{name}"\n{value}\n'
            'because = "to be compared"\nsource = "benchmarks/objects.py"\n'
            for name, value in decided.items()
        )
    )
    place = ("--work", work)
    settings = settings_of(task, options)
    chosen = ("--set", *settings) if settings else ()
    autoseg("plan", dataset, *place, "--rules", rules, "--name", task, "--for", "cpu", *chosen)
    autoseg("prepare", "--plan", task, *place)
    iterations = options.iterations or iterations_in(options.minutes, work, task)
    length = ("--iterations", iterations, "--overwrite")
    return iterations, autoseg("train", "--plan", task, "--fold", 0, *length, *place)


def seconds_a_scan(dataset: Path, work: Path, task: str, cases: list[str]) -> float:
    """Of a processor, by what more scans take than one, when the engine has been chosen."""
    took: list[float] = []
    most = min(PREDICTED, len(cases))
    for count in (1, 1, most):
        scans = work / f"{count}_scans"
        shutil.rmtree(scans, ignore_errors=True)
        scans.mkdir()
        for case in cases[:count]:
            [image] = (dataset / IMAGES[(dataset / "images").is_dir()]).glob(f"{case}[._]*")
            (scans / image.name).symlink_to(image.resolve())
        out = work / f"{count}_answers"
        place = ("--work", work, "--plan", task, "--overwrite")
        took.append(autoseg("predict", scans, out, *place).processor_s)
    return (took[-1] - took[-2]) / (most - 1)


def held_out(work: Path) -> list[str]:
    content = json.loads((work / "splits.json").read_text())
    first = content["folds"][0] if isinstance(content, dict) else content[0]
    return list(first.get("validation") or first.get("val"))


def score(
    dataset: Path, cases: list[str], found_of: Callable[[str], tuple[Numbers, dict[int, float]]]
) -> dict[str, float]:
    tally = Tally()
    for case in cases:
        tally.add(true_objects(dataset, case), *found_of(case))
    return tally.figures()


def true_objects(dataset: Path, case: str) -> Numbers:
    if numbered := [*(dataset / "instances").glob(f"{case}.*")]:
        return read_labels(numbered[0]).array
    [labels] = (dataset / "labelsTr").glob(f"{case}.*")
    objects: Numbers = cc3d.connected_components(read_labels(labels).array > 0, connectivity=26)
    return objects


def written(folder: Path, case: str) -> tuple[Numbers, dict[int, float]]:
    numbers = read_labels(folder / "instances" / f"{case}.nii.gz").array.astype(np.int64)
    objects = json.loads((folder / "instances" / f"{case}.json").read_text())
    return numbers, {one["number"]: one["score"] for one in objects}


def parted_mask(folder: Path, case: str) -> tuple[Numbers, dict[int, float]]:
    mask = read_labels(folder / f"{case}.nii.gz")
    return by_watershed(mask.array > 0, mask.grid.spacing_mm), {}


def compare(dataset: Path, work: Path, task: str, options: Any) -> dict[str, Any]:
    """Scores of a task on what fold 0 holds out; of the border's mask also of its watershed."""
    iterations, used = train(dataset, work, task, options)
    cases = held_out(work)
    cost = {
        "set": settings_of(task, options),
        "iterations": iterations,
        "processor_minutes": used.processor_s / 60,
        "processor_s_a_scan": seconds_a_scan(dataset, work, task, cases),
        "machine": machine(),
    }
    out = WorkFolder(work).fold(task, WorkFolder(work).plan(task).recommended, 0).validation
    found: dict[str, dict[str, Any]] = {
        task: score(dataset, cases, lambda case: written(out, case)) | cost
    }
    if task == "border":
        found["watershed"] = score(dataset, cases, lambda case: parted_mask(out, case))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=30, help="of a processor")
    parser.add_argument("--iterations", type=int, help="train for so many instead")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--task", choices=tuple(ANSWERS), nargs="+", default=tuple(ANSWERS))
    options = parser.parse_args()
    length = (
        f"{options.iterations} iterations"
        if options.iterations
        else f"{options.minutes:g} processor minutes"
    )
    for task in options.task:
        figures = compare(options.dataset, options.work / task, task, options)
        with alone():
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            mine = results.setdefault(f"{options.dataset.name}, {length}", {})
            mine |= figures
            with replacing(RESULTS) as temporary:
                temporary.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps(figures, indent=2), flush=True)


if __name__ == "__main__":
    main()
