"""Objects that queries, boxes or candidates find, through the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.cli import main
from autoseg.images.in_memory import volume_of_array
from autoseg.inference.predictor import Predictor
from autoseg.planning.model_plan import BoxesPlan, CandidatesPlan, MaskQueriesPlan
from autoseg.planning.network_plan import SoloPlan, YolactPlan
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import BoxLossPlan, LossPlan, MatchingPlan
from tests.inference.model_files import small_configuration, with_labels
from tests.inference.test_joining import balls
from tests.networks.every_network import PATCHES, RULES, mask_queries, mask_rcnn, solov2, yolact
from tests.pipeline.test_objects import AFFINE, SCHEME
from tests.training.blobs import changed_configuration

TORCH = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
QUICK = [
    "--set", "training.iterations_per_epoch=3", "--set", "training.validation_iterations=1",
]  # fmt: skip
TINY = """
[[rule]]
id = "memory.tiny"
decides = "memory_gib"
value = { fixed_gib = 0.05 }
because = "a small patch is quick"
source = "this test"
"""
FEW_POINTS = """
[[rule]]
id = "loss.tiny"
decides = "loss"
value = { kind = "matched_masks", dice_smooth = 1, matching = { points = 64 } }
because = "few points are quick"
source = "this test"
"""


def with_queries(configuration: Configuration) -> Configuration:
    network = mask_queries(3)
    plan = MaskQueriesPlan(
        classes=3, things=(1,), queries=network.queries, mask_stride=network.mask_stride,
        object_score=0.0, kept_share=0.0,
    )  # fmt: skip
    model = {"network": network, "task": plan, "patch_size_vox": PATCHES[3]}
    loss = LossPlan(kind="matched_masks", batch_dice=False, dice_smooth=1, matching=MatchingPlan())
    return changed_configuration(configuration, model=model, run={"loss": loss})


def with_boxes(configuration: Configuration) -> Configuration:
    network = mask_rcnn(3).model_copy(update={"dense_classes": ()})
    plan = BoxesPlan(
        classes=3, things=(1,), objects=6, mask_stride=network.mask_stride, object_score=0.0,
        kept_share=0.0,
    )  # fmt: skip
    model = {"network": network, "task": plan, "patch_size_vox": PATCHES[3]}
    loss = LossPlan(kind="found_boxes", batch_dice=False, dice_smooth=1, boxes=BoxLossPlan())
    return changed_configuration(configuration, model=model, run={"loss": loss})


def with_candidates(configuration: Configuration, network: SoloPlan | YolactPlan) -> Configuration:
    ranges = ((0.0, 1e6),) * len(network.grids) if isinstance(network, SoloPlan) else ()
    plan = CandidatesPlan(
        kind=network.kind, classes=3, things=(1,), queries=network.candidates,
        mask_stride=network.mask_stride, object_score=0.0, kept_share=0.0,
        spacing_mm=(1.0, 1.0, 1.0), sizes_mm=ranges,
    )  # fmt: skip
    model = {"network": network, "task": plan, "patch_size_vox": PATCHES[3]}
    return changed_configuration(configuration, model=model)


KINDS: dict[str, Callable[[Configuration], Configuration]] = {
    "queries": with_queries,
    "boxes": with_boxes,
    "solov2": lambda configuration: with_candidates(configuration, solov2(3)),
    "yolact": lambda configuration: with_candidates(configuration, yolact(3)),
}
SURER = ("decoder.classes.", "semantic.", "cells.", "classes.")  # of what says which class it is


@pytest.fixture(scope="module", params=KINDS.values(), ids=list(KINDS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, whose queries, boxes or candidates are each an object if their
    likeliest class is one of things, which most are."""
    configuration = request.param(with_labels(small_configuration(), SCHEME))
    torch.manual_seed(1)
    built = build_network(configuration.model)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.startswith(SURER) and name.endswith("bias"):
                parameter[1] = 1.0
            if name == "boxes.0.classes.bias":
                parameter[1] = 4.0
            if name == "masks.mask.bias":
                parameter.add_(4.0)
    card = ModelCard(
        plan_name="small", configuration=configuration, labels=SCHEME, channel_names=("MRI",),
        fold=0, trained_cases=1, trained_iterations=1, trained_seconds=1.0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, built, card)
    return path


def test_objects_are_written_where_their_class_is(tmp_path: Path, model: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(noise, AFFINE), tmp_path / "in/a.nii.gz")
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "in"), str(out), "--model", str(model), *TORCH]) == 0
    numbers = np.asarray(nib.load(out / "instances/a.nii.gz").dataobj)
    labels = np.asarray(nib.load(out / "a.nii.gz").dataobj)
    objects = json.loads((out / "instances/a.json").read_text())
    assert objects and [one["number"] for one in objects] == list(range(1, numbers.max() + 1))
    assert (labels[numbers > 0] == 1).all()
    for one in objects:
        assert one["name"] == "cell" and 0 < one["score"] <= 1
        voxels = np.count_nonzero(numbers == one["number"])
        size_mm3 = voxels * abs(np.linalg.det(AFFINE[:3, :3]))
        assert one["volume_ml"] * 1000 == pytest.approx(size_mm3, rel=1e-4)


def test_memory_is_planned_for_what_every_look_finds(model: Path) -> None:
    predictor = Predictor.load([model], "cpu", "fp32", "torch")
    [group] = predictor.groups
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    ready = predictor.prepare(volume_of_array(noise, spacing_mm=(2.0, 1.0, 1.0)), "a")
    answer = group.ensemble(torch.zeros(1, 1, *group.card.configuration.model.patch_box_vox))
    assert answer.shape[2] > 1  # mirror images, of which one is seen at once
    footprint = group.footprint(ready.scans[0].placement)
    without = replace(footprint, found=0)
    planned = footprint.network_bytes(1) - without.network_bytes(1)
    # Each look is held by itself, and again with all others.
    assert 2 * answer.nbytes <= planned <= 5 * answer.nbytes


def write_dataset(folder: Path, shape: tuple[int, int, int]) -> None:
    """Five scans of bright balls, or disks, and files that number them."""
    for index in range(5):
        rng = np.random.default_rng(index)
        centres = [tuple(rng.uniform(0, n - 1) for n in shape) for _ in range(6)]
        numbers = balls(shape, centres, 6.0).T.astype(np.uint16)
        image = 100.0 * (numbers > 0) + rng.normal(0, 10, numbers.shape)
        for part, values in (("images", image.astype(np.float32)), ("instances", numbers)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / part / f"case_{index}.nii.gz")


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["cpu", *RULES.values(), "maskformer", "flow"])
@pytest.mark.parametrize("shape", [(1, 40, 44), (14, 32, 30)], ids=["slices", "volumes"])
def test_every_network_is_planned_trained_and_predicted_with(
    tmp_path: Path, shape: tuple[int, int, int], rules: str
) -> None:
    write_dataset(tmp_path / "data", shape)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/ruleset.toml").write_text(f'title = "tiny"\nextends = "{rules}"\n')
    few = FEW_POINTS if rules in ("mask_queries", "maskformer") else ""
    tiny = "" if rules in ("deeplab", "segformer") else TINY  # weights alone are larger
    (tmp_path / "rules/tiny.toml").write_text(tiny + few)
    work = ["--work", str(tmp_path / "work")]
    plan = ["plan", str(tmp_path / "data"), "--rules", str(tmp_path / "rules"), "--for", "cpu"]
    assert main([*plan, "--name", "q", "--workers", "1", *QUICK, *work]) == 0
    assert main(["train", "--fold", "0", "--iterations", "6", *work]) == 0
    planned = json.loads((tmp_path / "work/plans/q.json").read_text())
    name = planned["recommended"]
    assert name == ("2d" if shape[0] == 1 else "3d_fullres")
    task = planned["configurations"][name]["model"]["task"]
    if task["kind"] not in ("semantic", "flow"):
        assert task["things"] == [1, 2] and task["border"] == 2
    model = str(tmp_path / f"work/models/q/{name}/fold_0/model.safetensors")
    scan, out = str(tmp_path / "data/images/case_0.nii.gz"), tmp_path / "out"
    assert main(["predict", scan, str(out), "--model", model, *TORCH]) == 0
    numbers = nib.load(out / "instances/case_0.nii.gz")
    told = json.loads((out / "instances/case_0.json").read_text())
    assert numbers.shape == shape[::-1] and len(told) == np.asarray(numbers.dataobj).max()
