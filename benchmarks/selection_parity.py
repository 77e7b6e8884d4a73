"""`select --as nnunet` against nnU-Net v2's find_best_configuration, on the same masks.

    python -m benchmarks.selection_parity PEER_PYTHON HIPPOCAMPUS [--cases 20] [--out FILE]

PEER_PYTHON is the interpreter of an environment with nnunetv2 2.8.1, HIPPOCAMPUS the dataset in
nnU-Net's raw layout. Probabilities of made-up models are its labels, shifted, with blobs and holes.
Compared are the score of every configuration and pair, the choice, the steps of post-processing,
and every voxel of the masks that come out.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.evaluation.corrections import CorrectedCase, correct_case, scored_classes
from autoseg.evaluation.patients import Patients
from autoseg.evaluation.selection import choose_as_nnunet, score_candidates
from autoseg.images.volume import read_labels
from autoseg.inference.whole_scan import mean_probability
from autoseg.pipeline.postprocess import MasksToCorrect, postprocessing_as_nnunet
from autoseg.planning.model_plan import SemanticPlan
from autoseg.postprocessing.steps import apply_steps
from autoseg.records import save_json
from autoseg.tasks.voxel_answer import classes_or_regions

HERE = Path(__file__).parent
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
FOLDS = 2
CLASSES = LabelScheme(values=(0, 1, 2), names=("background", "anterior", "posterior"))
ONE = LabelScheme(values=(0, 1), names=("background", "hippocampus"))
REGIONS = LabelScheme(
    values=(0, 1, 2),
    names=("background", "rim", "core"),
    regions=(Region(name="whole", values=(1, 2)), Region(name="core", values=(2,))),
    region_order=(1, 2),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is wrong with the masks of each made-up model."""

    name: str
    labels: LabelScheme
    blobs: tuple[float, ...]  # expected number in a scan, for each configuration
    twins: bool = False  # the foreground is there twice, so that components tie
    same: bool = False  # all models are the same
    classes: tuple[int, ...] = (1, 2)  # of the blobs
    seed: int = 0


SETTINGS = (
    *(
        Setting(f"{name}, seed {seed}", labels, blobs, seed=seed)
        for name, labels in (("classes", CLASSES), ("one class", ONE), ("regions", REGIONS))
        for seed, blobs in enumerate([(0, 1, 2), (3, 1, 0.2), (0.3, 0.3, 0.3)])
    ),
    Setting("blobs of one class", CLASSES, (2, 2, 1), classes=(2,)),
    Setting("ties of components", CLASSES, (3, 2, 2), twins=True),
    Setting("ties of components, regions", REGIONS, (3, 2, 2), twins=True),
    Setting("ties of models", CLASSES, (1, 1, 1), same=True),
    Setting("nothing to remove", CLASSES, (0, 0, 0)),
)


@dataclass(frozen=True, slots=True)
class Made:
    """A setting's files: references and, by candidate, masks by case."""

    setting: Setting
    references: dict[str, Path]
    masks: dict[tuple[str, ...], dict[str, Path]] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path)
    parser.add_argument("hippocampus", type=Path)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "selection_parity.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        labels = sorted((options.hippocampus / "labelsTr").glob("*.nii.gz"))[: options.cases]
        made = [write_setting(root, i, s, labels) for i, s in enumerate(SETTINGS)]
        jobs = [
            {
                "dataset": dataset_name(i),
                "configurations": CONFIGURATIONS,
                "folds": list(range(FOLDS)),
            }
            for i in range(len(made))
        ]
        save_json(jobs, root / "job.json")
        script = HERE / "peer" / "nnunet_select.py"
        subprocess.run([options.peer, script, root], check=True, stdout=subprocess.DEVNULL)
        rows = [compare(root, i, setting) for i, setting in enumerate(made)]
    agree = all(row["same_choice"] and row["same_steps"] and not row["voxels"] for row in rows)
    save_json({"cases": options.cases, "all_equal": agree, "settings": rows}, options.out)
    for row in rows:
        print(row)


def dataset_name(index: int) -> str:
    return f"Dataset{900 + index}_Parity"


def write_setting(root: Path, index: int, setting: Setting, labels: Sequence[Path]) -> Made:
    """References, probabilities and masks where nnU-Net looks for them, and its descriptions."""
    rng = np.random.default_rng(setting.seed)
    dataset = dataset_name(index)
    made = Made(setting, {})
    for number, path in enumerate(labels):
        case, image = path.name.removesuffix(".nii.gz"), nib.load(path)
        truth = _as_classes(np.asarray(image.dataobj).astype(np.uint8), setting)
        reference = root / "preprocessed" / dataset / "gt_segmentations" / path.name
        _write(reference, truth, image.affine)
        made.references[case] = reference
        probabilities = _models(truth, setting, rng)
        for name, own in zip(CONFIGURATIONS, probabilities, strict=True):
            folder = _results(root, index, name) / f"fold_{number % FOLDS}" / "validation"
            mask = folder / path.name
            _write(mask, decided([own], setting.labels), image.affine)
            # nnU-Net's arrays are [output, z, y, x], files of nibabel [x, y, z]
            np.savez_compressed(
                mask.with_name(f"{case}.npz"), probabilities=own.transpose(0, 3, 2, 1)
            )
            made.masks.setdefault((name,), {})[case] = mask
        for pair in combinations(range(len(CONFIGURATIONS)), 2):
            names = tuple(CONFIGURATIONS[i] for i in pair)
            mask = root / "ours" / dataset / "+".join(names) / path.name
            both = [probabilities[i] for i in pair]
            _write(mask, decided(both, setting.labels), image.affine)
            made.masks.setdefault(names, {})[case] = mask
    _describe(root, index, setting)
    return made


def _as_classes(truth: NDArray[np.uint8], setting: Setting) -> NDArray[np.uint8]:
    return (truth > 0).astype(np.uint8) if setting.labels is ONE else truth


def _models(
    truth: NDArray[np.uint8], setting: Setting, rng: np.random.Generator
) -> list[NDArray[np.float16]]:
    """Probabilities [output, x, y, z] of each made-up model."""
    found: list[NDArray[np.float16]] = []
    for blobs in setting.blobs:
        if setting.same and found:
            found.append(found[0])
            continue
        wrong = np.roll(truth, int(rng.integers(0, 2)), axis=int(rng.integers(3)))
        if setting.twins:
            wrong = np.concatenate([truth[: len(truth) // 2], truth[: (len(truth) + 1) // 2]])
        wrong = _with_blobs(wrong, setting, rng.poisson(blobs), rng)
        found.append(_probabilities(wrong, setting.labels, rng))
    return found


def _with_blobs(
    labels: NDArray[np.uint8], setting: Setting, count: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    labels = labels.copy()
    for _ in range(count):
        start = [int(rng.integers(0, size - 3)) for size in labels.shape]
        place = tuple(slice(a, a + int(rng.integers(1, 5))) for a in start)
        labels[place] = 1 if setting.labels is ONE else rng.choice(setting.classes)
    return labels


def _probabilities(
    labels: NDArray[np.uint8], scheme: LabelScheme, rng: np.random.Generator
) -> NDArray[np.float16]:
    values = scored_classes(scheme).values() if scheme.regions else [(v,) for v in scheme.values]
    inside = np.stack([np.isin(labels, v) for v in values])
    sure = rng.uniform(0.55, 0.95, labels.shape)
    if scheme.regions:
        return np.where(inside, sure, 1 - sure).astype(np.float16)
    return np.where(inside, sure, (1 - sure) / (len(inside) - 1)).astype(np.float16)


def decided(probabilities: Sequence[NDArray[np.float16]], scheme: LabelScheme) -> NDArray[Any]:
    """The mask [x, y, z] of the mean probability, as `predict` decides."""
    regions = scheme.region_classes()
    plan = SemanticPlan(classes=len(scheme.values), regions=regions)
    answer = classes_or_regions(plan, scheme)
    each = [torch.from_numpy(p.astype(np.float32)) for p in probabilities]
    classes = answer.decode(answer.scores_of(mean_probability(each)))
    return scheme.decode(classes.numpy())


def _write(path: Path, labels: NDArray[Any], affine: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), path)


def _results(root: Path, index: int, configuration: str) -> Path:
    name = f"nnUNetTrainer__nnUNetPlans__{configuration}"
    return root / "results" / dataset_name(index) / name


def _describe(root: Path, index: int, setting: Setting) -> None:
    scheme = setting.labels
    labels: dict[str, Any] = {"background": 0}
    for name, values in scored_classes(scheme).items():
        labels[name] = list(values) if scheme.regions else values[0]
    description: dict[str, Any] = {
        "labels": labels,
        "channel_names": {"0": "MRI"},
        "file_ending": ".nii.gz",
    }
    if scheme.regions:
        description["regions_class_order"] = list(scheme.region_order)
    plans = {
        "dataset_name": dataset_name(index),
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {name: {"architecture": {}} for name in CONFIGURATIONS},
    }
    save_json(plans, root / "preprocessed" / dataset_name(index) / "nnUNetPlans.json")
    for name in CONFIGURATIONS:
        save_json(description, _results(root, index, name) / "dataset.json")
        save_json(plans, _results(root, index, name) / "plans.json")


def compare(root: Path, index: int, made: Made) -> dict[str, Any]:
    """What both sides decide about one setting."""
    answer = json.loads((root / f"{dataset_name(index)}.json").read_text())
    theirs = list(answer["results"].values())  # in the order of ours: single ones, then pairs
    scheme, cases = made.setting.labels, sorted(made.references)
    to_correct = {
        names: {c: CorrectedCase(masks[c], made.references[c], scheme) for c in cases}
        for names, masks in made.masks.items()
    }
    order = sorted(to_correct, key=lambda n: (len(n), [CONFIGURATIONS.index(m) for m in n]))
    scores = {n: np.stack([correct_case(c)[0] for c in to_correct[n].values()]) for n in order}
    patients = Patients.of(cases)
    candidates = score_candidates(
        scores, list(scored_classes(scheme)), dict.fromkeys(CONFIGURATIONS, 1.0), patients
    )
    choice = order[choose_as_nnunet(candidates).index]
    best = theirs.index(max(theirs))
    folds = np.arange(len(cases)) % FOLDS
    kept = postprocessing_as_nnunet(
        MasksToCorrect(to_correct[choice], folds, patients, scheme), 1
    ).steps
    steps = tuple(reported.step for reported in kept)
    differing = 0
    for case in cases:
        mask = read_labels(made.masks[choice][case])
        ours, _ = apply_steps(mask.array, mask.grid.spacing_mm, steps, {})
        peer = read_labels(Path(answer["folder"]) / "postprocessed" / f"{case}.nii.gz").array
        differing += int(np.count_nonzero(ours != peer))
    peer_steps = [[s] if isinstance(s, int) else list(s) for s in answer["steps"]]
    return {
        "setting": made.setting.name,
        "choice": " + ".join(choice),
        "same_choice": order[best] == choice,
        "largest_score_difference": max(
            abs(a.score - b) for a, b in zip(candidates, theirs, strict=True)
        ),
        "steps": [reported.what for reported in kept],
        "same_steps": [list(step.values) for step in steps] == peer_steps,
        "voxels": differing,
    }


if __name__ == "__main__":
    main()
