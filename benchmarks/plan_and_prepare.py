"""Planning and preparing, whole processes in turn: autoseg against nnU-Net v2.

    python -m benchmarks.plan_and_prepare PEER_PYTHON DATASET [--configurations 2d 3d_fullres]
        [--repeats 3] [--planning-only] [--as-documented]

DATASET is in nnU-Net's raw layout. PEER_PYTHON is the interpreter of an environment with nnunetv2.
Both plan by the published rules and prepare the same configurations with two processes; autoseg
also checks the dataset, nnU-Net only with `--as-documented`. Prints medians and their ratio, and
how far the fingerprints' foreground intensities are apart.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import Run, run

RESULTS = Path(__file__).parent / "results"
FIELDS = ("mean", "std", "min", "max", "percentile_00_5", "median", "percentile_99_5")


def run_autoseg(dataset: Path, work: Path, options: argparse.Namespace) -> list[Run]:
    """`plan`, then `prepare` for all configurations."""
    autoseg = [sys.executable, "-m", "autoseg"]
    place = ["--work", str(work), "--workers", str(options.workers)]
    runs = [run([*autoseg, "plan", str(dataset), "--rules", "nnunet", *place])]
    if not options.planning_only:
        runs.append(run([*autoseg, "prepare", "--configuration", *options.configurations, *place]))
    return runs


def run_peer(dataset: Path, folder: Path, options: argparse.Namespace) -> list[Run]:
    """`nnUNetv2_plan_and_preprocess`, or its planning alone."""
    raw = folder / "raw" / "Dataset001_Benchmark"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(dataset.resolve())
    variables = {
        name: str(folder / part)
        for name, part in (
            ("nnUNet_raw", "raw"),
            ("nnUNet_preprocessed", "preprocessed"),
            ("nnUNet_results", "results"),
        )
    }
    command = str(Path(options.peer_python).parent / "nnUNetv2_plan_and_preprocess")
    workers = str(options.workers)
    if options.as_documented:
        return [run([command, "-d", "1", "--verify_dataset_integrity"], variables)]
    arguments = ["-d", "1", "-npfp", workers, "-np", workers]
    extra = ["--no_pp"] if options.planning_only else ["-c", *options.configurations]
    return [run([command, *arguments, *extra], variables)]


def fingerprint_distance(ours: Path, theirs: Path) -> dict[str, float]:
    """Per statistic the largest difference over channels, in standard deviations."""
    own = json.loads((ours / "fingerprint.json").read_text())
    mine = own["intensity_with_ignore"] or own["foreground_intensity"]
    name = "preprocessed/Dataset001_Benchmark/dataset_fingerprint.json"
    other = json.loads((theirs / name).read_text())["foreground_intensity_properties_per_channel"]
    return {
        field: max(
            abs(mine[int(c)][field] - stats[field]) / stats["std"] for c, stats in other.items()
        )
        for field in FIELDS
    }


def megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--configurations", nargs="+", default=["2d", "3d_fullres"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--planning-only", action="store_true")
    parser.add_argument(
        "--as-documented",
        action="store_true",
        help="run the peer as its documentation says, with its checks and its own process counts",
    )
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"autoseg": [], "nnunetv2": []}
    peak_mb: dict[str, list[float]] = {"autoseg": [], "nnunetv2": []}
    distance: dict[str, float] = {}
    floor: dict[str, float] = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            work, peer = Path(folder) / "work", Path(folder) / "peer"
            for tool, runs in (
                ("autoseg", run_autoseg(options.dataset, work, options)),
                ("nnunetv2", run_peer(options.dataset, peer, options)),
            ):
                if any(r.exit_code for r in runs):
                    raise SystemExit(f"{tool} failed")
                seconds[tool].append(sum(r.seconds for r in runs))
                peak_mb[tool].append(max(r.peak_mb for r in runs))
            distance = fingerprint_distance(work, peer)
            floor = {
                "megabytes_to_decompress": megabytes(options.dataset),
                "megabytes_to_write": megabytes(work / "prepared"),
            }
    result: dict[str, Any] = {
        "dataset": options.dataset.name,
        "configurations": [] if options.planning_only else options.configurations,
        "workers": options.workers,
        "seconds": seconds,
        "peak_mb": peak_mb,
        "times_faster": _ratio(seconds),
        "times_less_memory": _ratio(peak_mb),
        "physical_floor": floor,
        "fingerprint_distance_std": distance,
    }
    print(json.dumps(result, indent=2))
    what = "plan" if options.planning_only else "plan_and_prepare"
    what += "_as_documented" if options.as_documented else ""
    path = RESULTS / f"{what}_{options.dataset.name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def _ratio(values: dict[str, list[float]]) -> float:
    return statistics.median(values["nnunetv2"]) / statistics.median(values["autoseg"])


if __name__ == "__main__":
    main()
