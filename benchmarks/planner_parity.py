"""Plans of the published rule sets against those of nnU-Net v2's own planners, field by field.

    python -m benchmarks.planner_parity PEER_PYTHON [--count 420] [--golden FILE]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1. Every dataset is made up, and
planned by all four planners. `--golden` saves the peer's plans of a few datasets that together show
everything, for tests that need no nnunetv2.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.errors import AutosegError
from tests.planning.specified import RULE_SETS, fields_of_ours, specified_plan

HERE = Path(__file__).parent
PEER_PROCESSES = 2
MOST_GOLDEN_SCANS, GOLDEN_COUNT = 3, 30
NORMALIZATIONS = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_0_1",
    "RGBTo01Normalization": "rgb_0_1",
}
NETWORKS = {"PlainConvUNet": "plain_unet", "ResidualEncoderUNet": "residual_unet"}
NORMS = {f"torch.nn.modules.instancenorm.InstanceNorm{dims}d": "instance" for dims in (2, 3)}
ACTIVATIONS = {"torch.nn.LeakyReLU": "leaky_relu"}
CHANNELS = ["CT", "ct", "MRI", "T2", "zscore", "noNorm", "rescale_to_0_1", "rgb_to_0_1"]
MEMORY_GIB = [None, None, None, 4, 6, 8, 11, 12, 16, 24, 32, 40, 48, 80]

Spec = dict[str, Any]
Scan = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # spacing and shape, before jitter


def isotropic(rng: np.random.Generator) -> Scan:
    return np.full(3, rng.uniform(0.3, 3)), rng.uniform(32, 400) * rng.uniform(0.5, 1.5, 3)


def anisotropic(rng: np.random.Generator) -> Scan:
    spacing, shape = isotropic(rng)
    axis, ratio = rng.integers(3), rng.choice([1.5, 1.9, 2, 2.1, 3, 3.1, 5, 10])
    spacing[axis] *= ratio
    shape[axis] /= ratio
    return spacing, shape


def tiny(rng: np.random.Generator) -> Scan:
    return rng.uniform(0.5, 2, 3), rng.uniform(4, rng.choice([12, 40, 40]), 3)


def huge(rng: np.random.Generator) -> Scan:
    return rng.choice([0.1, 0.2, 0.5], 3), rng.uniform(400, 1500, 3)


def thin_stack(rng: np.random.Generator) -> Scan:
    """A few thick slices."""
    return rng.choice([3.0, 5.0, 8.0, 10.0]) * np.array([1, 0.1, 0.1]), np.array(
        [rng.integers(2, 12), *rng.uniform(100, 700, 2)]
    )


def single_slice(rng: np.random.Generator) -> Scan:
    """A flat image, with 999 across it or a header's thickness; now and then along another axis."""
    pixel = rng.uniform(0.1, 2)
    spacing = np.array([rng.choice([999.0, 999.0, 5.0, 1.0]) * pixel, pixel, pixel])
    shape = np.array([1, *rng.uniform(30, 2500, 2)])
    turn = rng.choice([0, 0, 0, 1, 2])
    return np.roll(spacing, turn), np.roll(shape, turn)


def any_shape(rng: np.random.Generator) -> Scan:
    """Whatever the axes: needles, plates, spacings that fit nothing."""
    return np.exp(rng.uniform(np.log(0.1), np.log(10), 3)), np.exp(
        rng.uniform(np.log(8), np.log(900), 3)
    )


FAMILIES: dict[str, Callable[[np.random.Generator], Scan]] = {
    "isotropic": isotropic,
    "anisotropic": anisotropic,
    "tiny": tiny,
    "huge": huge,
    "thin_stack": thin_stack,
    "single_slice": single_slice,
    "any_shape": any_shape,
}


def scans_of(rng: np.random.Generator, scan: Scan) -> list[dict[str, Any]]:
    """One to thousands of scans, in groups that are alike within but differ in size and spacing."""
    cases = int(rng.choice([1, 2, 3, 5, 20, 100, 500, 3000]))
    groups = min(cases, int(rng.choice([1, 2, 3, 7, 40])))
    crop = rng.choice([1.0, 0.9, 0.75, 0.74, 0.3])
    factors = rng.choice([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.8, 1.3], [0.3, 0.5, 1.0, 2.0]])
    scans = []
    for group in range(groups):
        spacing = scan[0] * (rng.choice(factors) if rng.random() < 0.5 else rng.choice(factors, 3))
        cropped = np.maximum(1, scan[1] * rng.uniform(0.8, 1.2, 3)).astype(int)
        cropped[scan[1] == 1] = 1
        shape = cropped.copy()
        shape[-1] = max(cropped[-1], round(cropped[-1] / crop))
        scans.append(
            {
                "count": cases // groups + (group < cases % groups),
                "spacing_mm": spacing.round(int(rng.choice([1, 4, 12]))).clip(0.1).tolist(),
                "shape_vox": shape.tolist(),
                "cropped_vox": cropped.tolist(),
            }
        )
    return scans


def labels_of(rng: np.random.Generator) -> dict[str, Any]:
    """Labels as in a dataset.json: 2 to 100 classes, or regions; some with an ignore label."""
    classes = int(rng.choice([2, 3, 5, 20, 100]))
    labels: dict[str, Any] = {"background": 0} | {f"c{i}": i for i in range(1, classes)}
    description: dict[str, Any] = {"labels": labels}
    if classes in (3, 5, 20) and rng.random() < 0.5:
        regions = {f"r{i}": list(range(i, classes)) for i in range(1, classes)}
        if rng.random() < 0.5:
            regions[f"r{classes - 1}"] = classes - 1  # type: ignore[assignment]
        description["labels"] = labels = {"background": 0} | regions
        description["regions_class_order"] = list(range(1, classes))
    if rng.random() < 0.3:
        labels["ignore"] = classes
    return description


def dataset(rng: np.random.Generator, family: str) -> Spec:
    """A random dataset of a family, described as a dataset.json and a fingerprint describe it."""
    channels = rng.choice(CHANNELS, rng.integers(1, 6)).tolist()
    names = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")
    return {
        "family": family,
        "description": {"channel_names": dict(zip("01234", channels, strict=False))}
        | labels_of(rng),
        "scans": scans_of(rng, FAMILIES[family](rng)),
        "intensity": [
            dict(zip(names, rng.integers(0, 999, 7).astype(float).tolist(), strict=True))
            for _ in channels
        ],
    }


def specifications(count: int) -> list[Spec]:
    """Datasets of every family in turn, each once for every planner, with a target or without."""
    rng = np.random.default_rng(0)
    specs = []
    for index in range(count):
        one = dataset(rng, list(FAMILIES)[index % len(FAMILIES)])
        specs += [
            one | {"planner": planner, "memory_gib": MEMORY_GIB[rng.integers(len(MEMORY_GIB))]}
            for planner in RULE_SETS
        ]
    return specs


def ask_peer(peer_python: str, specs: list[Spec]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """nnU-Net's plan of each specification, and the versions that made them."""
    with tempfile.TemporaryDirectory() as parent:
        folders = [Path(parent) / str(index) for index in range(PEER_PROCESSES)]
        processes = []
        for index, folder in enumerate(folders):
            folder.mkdir()
            (folder / "specifications.json").write_text(json.dumps(specs[index::PEER_PROCESSES]))
            command = [peer_python, str(HERE / "peer" / "nnunet_plans.py"), str(folder)]
            processes.append(subprocess.Popen(command))
        if any(process.wait() for process in processes):
            raise SystemExit("nnunet_plans.py failed; see its message above.")
        parts = [json.loads((folder / "plans.json").read_text()) for folder in folders]
        versions = json.loads((folders[0] / "versions.json").read_text())
    plans = [parts[i % PEER_PROCESSES][i // PEER_PROCESSES] for i in range(len(specs))]
    return plans, versions


def fields_of_theirs(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration of nnU-Net's in our words; one that inherits, with what it inherits."""
    own = plan["configurations"][name]
    configuration = plan["configurations"].get(own.get("inherits_from"), {}) | own
    architecture = configuration["architecture"]
    network = architecture["arch_kwargs"]
    return {
        "transpose": plan["transpose_forward"],
        "spacing": configuration["spacing"],
        "median_shape": configuration["median_image_size_in_voxels"],
        "patch_size": configuration["patch_size"],
        "batch_size": configuration["batch_size"],
        "network": NETWORKS[architecture["network_class_name"].rpartition(".")[2]],
        "operators": [
            f"bias={network['conv_bias']}",
            NORMS[network["norm_op"]],
            ACTIVATIONS[network["nonlin"]],
        ],
        "features": network["features_per_stage"],
        "strides": network["strides"],
        "kernel_sizes": network["kernel_sizes"],
        "blocks": network.get("n_conv_per_stage") or network["n_blocks_per_stage"],
        "decoder_blocks": network["n_conv_per_stage_decoder"],
        "batch_dice": configuration["batch_dice"],
        "normalization": [NORMALIZATIONS[n] for n in configuration["normalization_schemes"]],
        "mask": configuration["use_mask_for_norm"],
        "intensity": list(plan["foreground_intensity_properties_per_channel"].values()),
        "resampling": _resampling(plan, configuration),
        "previous_stage": configuration.get("previous_stage"),
    }


def _resampling(plan: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any]:
    data, seg, probabilities = (
        configuration[f"resampling_fn_{what}_kwargs"] for what in ("data", "seg", "probabilities")
    )
    for kwargs in (data, seg, probabilities):  # what autoseg has no setting for
        assert kwargs["order_z"] == 0 and kwargs["force_separate_z"] is None
    return {
        "image_order": data["order"],
        "label_order": seg["order"],
        "logits_order": probabilities["order"],
        "separate_axis_ratio": plan["separate_axis_ratio"],
        "keep_within": 0.0,
    }


@dataclass
class Comparison:
    """Counts by planner: fields that are equal of those compared, and what was not compared."""

    equal: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    compared: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    not_compared: Counter[tuple[str, str]] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)

    def add(self, planner: str, name: str, ours: Any, theirs: Any) -> None:
        self.compared[name][planner] += 1
        self.equal[name][planner] += ours == theirs
        if ours != theirs:
            print(f"different: {planner} {name}: autoseg {ours}, nnunetv2 {theirs}")

    def shares(self) -> dict[str, dict[str, float]]:
        return {
            name: {planner: self.equal[name][planner] / n for planner, n in counts.items()}
            for name, counts in self.compared.items()
        }

    def print_table(self) -> None:
        print(f"{'':16}" + "".join(f"{planner:>23}" for planner in RULE_SETS))
        for name, shares in self.shares().items():
            cells = (f"{shares[p]:8.2%} of {self.compared[name][p]:5}" for p in RULE_SETS)
            print(f"{name:16}" + "".join(f"{cell:>23}" for cell in cells))


def compare(specs: list[Spec], theirs: list[dict[str, Any]]) -> Comparison:
    """Every field of every configuration, and whether the configurations are the same ones.

    Plans that one of the two refuses, or whose networks cannot predict, are counted apart.
    """
    comparison = Comparison()
    for spec, their_plan in zip(specs, theirs, strict=True):
        failure = their_plan.get("error") or _without_use(their_plan["unusable"])
        try:
            ours = specified_plan(spec).configurations
            answer = "plans " + ", ".join(sorted(ours))
        except AutosegError as error:
            ours, answer = {}, re.sub(r"\(\d.*?\)", "(…)", str(error))
        if failure or not ours:
            comparison.not_compared[failure or "plans", answer] += 1
            continue
        names = sorted(ours), sorted(their_plan["configurations"])
        comparison.add(spec["planner"], "configurations", *names)
        for name, configuration in ours.items():
            if name in names[1]:
                their_fields = fields_of_theirs(their_plan, name)
                for what, value in fields_of_ours(configuration).items():
                    comparison.add(spec["planner"], what, value, their_fields[what])
        comparison.covered.update(traits(spec, their_plan))
    return comparison


def _without_use(unusable: dict[str, str]) -> str:
    failures = [f"{name} cannot predict: {error}" for name, error in sorted(unusable.items())]
    return "plans, but " + ", ".join(failures) if failures else ""


def traits(spec: Spec, plan: dict[str, Any]) -> set[str]:
    """What a dataset shows, to count it, and to choose few that show everything."""
    description = spec["description"]
    return {
        spec["family"],
        *plan["configurations"],
        f"{sum(scan['count'] for scan in spec['scans'])} cases",
        f"{len(description['channel_names'])} channels",
        *(f"channel {name}" for name in description["channel_names"].values()),
        f"{len(description['labels'])} labels declared",
        *(["regions"] if "regions_class_order" in description else []),
        *(["ignore label"] if "ignore" in description["labels"] else []),
        "memory of the planner" if spec["memory_gib"] is None else f"{spec['memory_gib']} GB given",
    }


def save_golden(path: Path, specs: list[Spec], theirs: list[dict[str, Any]]) -> None:
    """The peer's plans of datasets with few kinds of scans, each adding most to what is shown."""
    small = [
        (spec, plan)
        for spec, plan in zip(specs, theirs, strict=True)
        if len(spec["scans"]) <= MOST_GOLDEN_SCANS
        and len(spec["description"]["labels"]) <= 20
        and not plan.get("error")
        and not plan["unusable"]
    ]
    shown: set[str] = set()
    golden = []
    for _ in range(GOLDEN_COUNT):
        best = max(small, key=lambda pair: len(traits(*pair) - shown))
        small.remove(best)
        shown |= traits(*best)
        spec, plan = best
        plans = {name: fields_of_theirs(plan, name) for name in plan["configurations"]}
        golden.append({"dataset": spec, "plans": plans})
    path.write_text("[\n" + ",\n".join(json.dumps(item) for item in golden) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("--count", type=int, default=420, help="datasets")
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    specs = specifications(options.count)
    theirs, versions = ask_peer(options.peer_python, specs)
    if options.golden:
        save_golden(options.golden, specs, theirs)
    comparison = compare(specs, theirs)
    comparison.print_table()
    not_compared = [
        {"plans": count, "nnunetv2": failure, "autoseg": refusal}
        for (failure, refusal), count in comparison.not_compared.most_common()
    ]
    for entry in not_compared:
        print("{plans} not compared: nnunetv2 {nnunetv2}; autoseg {autoseg}".format(**entry))
    result = {
        "versions": {"autoseg": version("autoseg")} | versions,
        "datasets": options.count,
        "plans": len(specs),
        "compared": {name: sum(counts.values()) for name, counts in comparison.compared.items()},
        "equal": comparison.shares(),
        "covered": dict(sorted(comparison.covered.items())),
        "not_compared": not_compared,
    }
    (HERE / "results" / "planner_parity.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
