"""Objects that touch, decoded from true targets: what parting alone loses, without any network.

    python -m benchmarks.object_targets DATASET [--cases 8]

DATASET has `instances/`; its last cases are taken. Borders lose a fifth of their voxels; depths get
smooth noise, as a share of the largest depth, and ways to middles of four times that share of 1.
Results are put under the dataset's name into benchmarks/results/object_targets.json.
"""

import argparse
import json
from math import cbrt, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.dataset.labels import instance_classes
from autoseg.dataset.layouts.naming import image_files
from autoseg.geometry import Spacing3
from autoseg.images.volume import Volume, read_labels
from autoseg.planning.task_choice import LEAST_REACH_VOX, REACH_VOX
from autoseg.postprocessing.instances import InstanceRule, label_instances
from autoseg.tasks.depth import depth_in_objects
from autoseg.tasks.directions import directions_in_objects
from benchmarks.objects import Numbers, Tally, by_watershed

RESULTS = Path(__file__).parent / "results" / "object_targets.json"
NOISES = (0.0, 0.05, 0.1)  # of depths
NOISE_OF_WAYS = 4  # times as much
WAY_STEPS = 200  # of heat
SMOOTH_VOX = 1.5
LOST = 0.2  # of a border's voxels
BORDER = 2


def reach_mm(truths: list[Volume]) -> float:
    """As planned for these cases alone: the diameter of the 5th percentile object, in limits."""
    diameters = []
    for truth in truths:
        lone = [mm for mm, n in zip(truth.grid.spacing_mm, truth.array.shape, strict=True) if n < 2]
        voxels = np.unique(truth.array[truth.array > 0], return_counts=True)[1]
        sizes = voxels * float(np.prod(truth.grid.spacing_mm)) / float(np.prod(lone))
        diameters += [2 * (sqrt(s / pi) if lone else cbrt(0.75 * s / pi)) for s in sizes.tolist()]
    wide = truths[0].grid.planning_spacing_mm
    small_mm = float(np.percentile(diameters, 5))
    return min(max(small_mm, LEAST_REACH_VOX * max(wide)), REACH_VOX * min(wide))


def depth_of(truth: Numbers, spacing_mm: Spacing3, reach: float) -> NDArray[np.float32]:
    numbers = torch.from_numpy(np.ascontiguousarray(truth).astype(np.int32))
    depth: NDArray[np.float32] = depth_in_objects(numbers[None], spacing_mm, reach)[0][0].numpy()
    return depth / reach


def ways_of(truth: Numbers, spacing_mm: Spacing3) -> NDArray[np.float32]:
    """[axis, z, y, x]"""
    numbers = torch.from_numpy(np.ascontiguousarray(truth).astype(np.int32))
    found, _ = directions_in_objects(numbers[None], spacing_mm, WAY_STEPS)
    ways: NDArray[np.float32] = found[0].numpy()
    return ways


def noise_like(
    values: NDArray[np.float32], deviation: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    sigma = [SMOOTH_VOX if size > 1 else 0.0 for size in values.shape]
    noise = ndimage.gaussian_filter(rng.normal(size=values.shape), sigma)
    smooth: NDArray[np.float32] = (deviation * noise / noise.std()).astype(np.float32)
    return smooth


def decoded(truth: Volume, reach: float, rng: np.random.Generator) -> dict[str, Numbers]:
    """Objects as each way finds them in the true mask, border or depth."""
    spacing_mm, mask = truth.grid.spacing_mm, truth.array > 0
    classes = instance_classes(truth.array, spacing_mm)
    broken = np.where((classes == BORDER) & (rng.random(classes.shape) < LOST), 1, classes)
    by_border, by_necks = InstanceRule(border=BORDER), InstanceRule()
    one_class = mask.astype(np.uint8)
    depth = depth_of(truth.array, spacing_mm, reach)
    found: dict[str, Numbers] = {
        "mask, watershed": by_watershed(mask, spacing_mm),
        "mask, necks": label_instances(one_class, spacing_mm, by_necks)[0],
        "border": label_instances(classes, spacing_mm, by_border)[0],
        "border, a fifth lost": label_instances(broken, spacing_mm, by_border)[0],
    }
    for share in NOISES:
        noisy = depth + noise_like(depth, share * float(depth.max()), rng)
        name = f"depth, noise {share}" if share else "depth"
        found[name] = label_instances(one_class, spacing_mm, by_necks, noisy[None])[0]
    ways = ways_of(truth.array, spacing_mm)
    for share in NOISES:
        noisy = np.stack([way + noise_like(way, NOISE_OF_WAYS * share, rng) for way in ways])
        name = f"ways, noise {NOISE_OF_WAYS * share}" if share else "ways"
        found[name] = label_instances(one_class, spacing_mm, by_necks, noisy)[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    options = parser.parse_args()
    files = image_files(options.dataset / "instances")[-options.cases :]
    truths = [read_labels(path) for path in files]
    reach, rng = reach_mm(truths), np.random.default_rng(0)
    tallies: dict[str, Tally] = {}
    for truth in truths:
        for name, numbers in decoded(truth, reach, rng).items():
            tallies.setdefault(name, Tally()).add(truth.array, numbers.astype(np.int64), {})
    figures: dict[str, Any] = {name: tally.figures() for name, tally in tallies.items()}
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[options.dataset.name] = {"cases": len(files), "reach_mm": reach} | figures
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
