"""Scores of autoseg's metrics against those of other libraries, on real masks, and their times.

    python -m benchmarks.metrics_parity SHARED_DATA --peers PEER_PYTHON PANOPTICA_PYTHON \
        BRATS_PYTHON

PEER_PYTHON has surface-distance 0.1, monai 1.6.1, medpy 0.5.2, SimpleITK 2.5.7, torchmetrics 1.9.0
and pycocotools 2.0.11; PANOPTICA_PYTHON has panoptica 2.1.7, which needs older packages;
BRATS_PYTHON has the code of the BraTS 2023 challenge, by peer/metric_lesions.py, which needs pandas
1.5. References are real masks (of every fourth hippocampus), predictions are the same shifted and
partly eroded, and here and there empty; probabilities are waves; a scan of 25 organs is made.
Others see masks cut to where either is, which changes none of their scores but saves their time;
autoseg starts from whole maps. Seconds are of processor time, on one core.

A comparison with another library is a row of COMPARISONS, in metric_comparisons.py, and a function
in peer/.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from autoseg.evaluation.detection import detections_of, froc
from autoseg.evaluation.mask_pair import Convention, MaskPair
from autoseg.evaluation.metrics import METRICS
from autoseg.evaluation.surfaces import SurfaceKind
from benchmarks.mask_pairs import Scan, scans
from benchmarks.metric_comparisons import COMPARISONS, LIBRARIES, TOLERANCE_MM, Comparison

RESULTS = Path(__file__).parent / "results" / "metrics_parity.json"
PEER = Path(__file__).parent / "peer" / "metrics.py"
EQUAL = 2e-6  # of the larger; some libraries answer in single precision
SURFACE_METRICS = ("hd_mm", "hd95_mm", "asd_mm", "nsd")
KINDS: tuple[SurfaceKind, ...] = ("voxel", "area")


def mean_froc(pair: MaskPair) -> float | None:
    curve = froc([detections_of(pair)])
    return None if curve is None else curve.mean


OURS = {name: metric.score for name, metric in METRICS.items()} | {"froc": mean_froc}


@dataclass(frozen=True, slots=True)
class Answers:
    """Scores by function and pair, or words for those that are none; seconds by function and data
    set."""

    scores: dict[str, dict[str, float | str]]
    seconds: dict[str, dict[str, float]]


def ask(scan: Scan, folder: Path) -> None:
    """Write pairs of masks for other libraries, cut with one voxel around."""
    maps = scan.maps
    for value in scan.classes:
        masks = {"prediction": maps.prediction == value, "reference": maps.reference == value}
        boxes = ndimage.find_objects((masks["prediction"] | masks["reference"]).view(np.uint8))
        box = boxes[0] if boxes else (slice(0, 1),) * 3
        wider = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        if maps.predicted_ids is not None and maps.reference_ids is not None:
            masks["predicted_ids"] = np.where(masks["prediction"], maps.predicted_ids, 0)
            masks["reference_ids"] = np.where(masks["reference"], maps.reference_ids, 0)
        if (probability := maps.probabilities and maps.probabilities.of("")) is not None:
            masks["probability"] = probability
        single = maps.prediction.shape[0] == 1
        cut = {name: mask[wider][0] if single else mask[wider] for name, mask in masks.items()}
        spacing = maps.spacing_mm[1:] if single else maps.spacing_mm
        path = folder / f"{scan.name}-{value}.npz"
        np.savez(path, spacing=spacing, tolerance=TOLERANCE_MM, **cut)


def answer_ourselves(scan: Scan, kind: SurfaceKind, answers: Answers) -> None:
    """Add one scan's scores by every metric, with the time of cutting out under `cut`."""
    dataset = scan.name.split("-")[0]
    maps = replace(scan.maps, convention=Convention(surfaces=kind, tolerance_mm=TOLERANCE_MM))
    started = time.process_time()
    pairs = list(maps.masks({str(value): (value,) for value in scan.classes}))
    _add(answers.seconds, "cut", dataset, time.process_time() - started)
    for value, pair in pairs:
        for name, scored_by in OURS.items():
            started = time.process_time()
            score = scored_by(pair)
            _add(answers.seconds, name, dataset, time.process_time() - started)
            scored = answers.scores.setdefault(name, {})
            scored[f"{scan.name}-{value}"] = "undefined" if score is None else score


def _add(seconds: dict[str, dict[str, float]], name: str, dataset: str, spent: float) -> None:
    of_name = seconds.setdefault(name, {})
    of_name[dataset] = of_name.get(dataset, 0.0) + spent


def compare(
    comparison: Comparison, ours: dict[SurfaceKind, Answers], theirs: Answers
) -> dict[str, Any]:
    """The largest difference where both give a number, and what they give where one does not."""
    our_scores = ours[comparison.surfaces].scores[comparison.metric]
    their_scores = theirs.scores[comparison.function]
    largest, where, both, others = 0.0, "", 0, dict[str, int]()
    for name, our in our_scores.items():
        their = their_scores[name]
        if isinstance(our, str) or isinstance(their, str):
            words = f"ours {_word(our)}, theirs {_word(their)}"
            others[words] = others.get(words, 0) + 1
            continue
        both += 1
        if abs(our - their) > largest:
            largest, where = abs(our - their), name
    scale = max(1.0, *(abs(s) for s in our_scores.values() if isinstance(s, float)))
    return {
        "metric": comparison.metric,
        "surfaces": comparison.surfaces,
        "library": comparison.library,
        "function": comparison.function,
        "same_convention": not comparison.differs,
        "differs": comparison.differs,
        "pairs": both,
        "largest_difference": largest,
        "where": where,
        "equal": largest <= EQUAL * scale,
        "not_numbers": others,
        "their_seconds": {k: round(s, 3) for k, s in theirs.seconds[comparison.function].items()},
    }


def _word(score: float | str) -> str:
    return score if isinstance(score, str) else "a number"


def show(result: dict[str, Any]) -> None:
    verdict = "equal" if result["equal"] else "DIFFERS" if result["same_convention"] else "differs"
    names = f"{result['metric']} by {result['surfaces']}", result["library"], result["function"]
    line = f"{names[0]:20} {names[1]:17} {names[2]:50} {verdict:8}"
    seconds = sum(result["their_seconds"].values())
    print(f"{line}{result['largest_difference']:9.2g} {seconds:8.1f} s  {result['differs']}")
    if result["not_numbers"]:
        print(" " * 21 + "; ".join(f"{count} {w}" for w, count in result["not_numbers"].items()))


def ask_library(library: str, python: str, folder: Path) -> Answers:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [python, str(PEER), library, str(folder), file.name]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return Answers(**json.loads(Path(file.name).read_text()))


def surface_seconds(ours: dict[SurfaceKind, Answers], theirs: dict[str, Answers]) -> dict[str, Any]:
    """Of HD, HD95, ASD and NSD together, per data set; of libraries that lack one, of the others.

    Ours hold the cutting out of the masks.
    """
    names = {
        library: [c.function for c in COMPARISONS if c.library == library and _is_surface(c)]
        for library in theirs
    }
    names["surface-distance, one search"] = ["four"]
    rows = {f"autoseg by {kind}": _summed(ours[kind], ["cut", *SURFACE_METRICS]) for kind in KINDS}
    return rows | {library: _summed(theirs[library], names[library]) for library in theirs}


def _is_surface(comparison: Comparison) -> bool:
    whole_masks = "Filter" in comparison.function or "subvoxels" in comparison.function
    return comparison.metric in SURFACE_METRICS and not whole_masks


def _summed(answers: Answers, names: list[str]) -> dict[str, float]:
    datasets = dict.fromkeys(dataset for name in names for dataset in answers.seconds[name])
    return {d: round(math.fsum(answers.seconds[n][d] for n in names), 3) for d in datasets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--peers", nargs=3, required=True, metavar="PYTHON")
    options = parser.parse_args()
    ours = {kind: Answers({}, {}) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for scan in scans(options.shared):
            for kind in KINDS:
                answer_ourselves(scan, kind, ours[kind])
            ask(scan, Path(folder))
        theirs = {
            library: ask_library(library, options.peers[index], Path(folder))
            for library, index in LIBRARIES.items()
        }
    results = [compare(c, ours, theirs[c.library]) for c in COMPARISONS]
    for result in results:
        show(result)
    same = [result["equal"] for result in results if result["same_convention"]]
    print(f"{sum(same)} of {len(same)} functions of the same convention are equal")
    seconds = surface_seconds(ours, theirs)
    for name, row in seconds.items():
        print(f"{name:30} " + "  ".join(f"{d} {s:.2f} s" for d, s in row.items()))
    our_seconds = {kind: ours[kind].seconds for kind in KINDS}
    content = {"comparisons": results, "surface_seconds": seconds, "our_seconds": our_seconds}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
