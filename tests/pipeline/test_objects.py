import json
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from scipy.spatial.distance import pdist

from autoseg.checkpoint import ModelCard, build_network, load_model, save_model
from autoseg.cli import main
from autoseg.cli.arguments import make_parser
from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.errors import AutosegError
from autoseg.images.coco import path_of_map
from autoseg.images.volume import read_labels
from autoseg.pipeline.mask_writer import Extras, extras_of_things
from autoseg.pipeline.other_formats import OtherFormat, OtherFormats
from autoseg.pipeline.predict import PredictJob, predict_files
from autoseg.planning.model_plan import DistancePlan, FlowPlan, TaskPlan
from autoseg.postprocessing.instances import InstanceRule
from autoseg.postprocessing.recipe import Recipe
from autoseg.postprocessing.sureness import ClassSureness, ObjectSureness
from tests.inference.model_files import small_configuration, with_labels

SCHEME = LabelScheme(values=(0, 1, 4), names=("background", "cell", "tissue"), things=("cell",))
AFFINE = np.array([[0, -0.8, 0, 10], [0.7, 0, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])


PLANS: dict[str, TaskPlan] = {
    "depth": DistancePlan(classes=3, spacing_mm=(2.0, 1.0, 1.0), reach_mm=4),
    "ways": FlowPlan(classes=3, spacing_mm=(2.0, 1.0, 1.0), steps=9),
}


@pytest.fixture(scope="module", params=PLANS)
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A model with random weights, of things that it tells apart by depth, or by ways."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return random_model(path, SCHEME, PLANS[request.param])


def random_model(path: Path, labels: LabelScheme, plan: TaskPlan) -> Path:
    configuration = with_labels(small_configuration(), labels)
    changed = configuration.model.model_copy(update={"task": plan})
    configuration = configuration.model_copy(update={"model": changed})
    torch.manual_seed(0)
    card = ModelCard(
        plan_name="small",
        configuration=configuration,
        labels=labels,
        channel_names=("MRI",),
        fold=0,
        trained_cases=1,
        trained_iterations=1,
        trained_seconds=1.0,
    )
    save_model(path, build_network(changed), card)
    return path


def test_objects_that_no_border_parted_have_one_in_the_mask_as_references_do(
    tmp_path: Path,
) -> None:
    plan = PLANS["ways"].model_copy(update={"border": 2})
    model = random_model(tmp_path / "model.safetensors", INSTANCE_SCHEME, plan)
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, AFFINE), tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "a.nii.gz"), str(out), "--model", str(model)]
    fixed = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
    assert main([*command, *fixed]) == 0
    mask, numbers = (read_labels(out / name) for name in ("a.nii.gz", "instances/a.nii.gz"))
    drawn = INSTANCE_SCHEME.encode(numbers.array, numbers.grid.spacing_mm)
    there = numbers.array > 0
    assert (drawn == 2).any()
    np.testing.assert_array_equal(mask.array[there], drawn[there])
    for name in ("a.nii.gz", "instances/a.nii.gz"):
        np.testing.assert_allclose(nib.load(out / name).affine, AFFINE, atol=1e-5)


def test_objects_of_a_picture_are_written_as_coco_has_them(tmp_path: Path, model: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (21, 27)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(noise).save(tmp_path / "in/a.png")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "in"), str(out), "--model", str(model), "--device", "cpu"]
    fixed = ["--precision", "fp32", "--engine", "torch"]
    assert main([*command, *fixed, "--format", "coco"]) == 0
    objects = json.loads((out / "instances/a.json").read_text())
    content = json.loads((out / "coco/a.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "cell"}]
    scores = {one["id"]: one["score"] for one in content["annotations"]}
    assert scores == {one["number"]: one["score"] for one in objects}
    written = read_labels(path_of_map(out / "coco/a.json", 1, "objects")).array
    np.testing.assert_array_equal(written, read_labels(out / "instances/a.nii.gz").array)


def test_a_panoptic_map_tells_objects_and_stuff_of_every_voxel(tmp_path: Path, model: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, AFFINE), tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "a.nii.gz"), str(out), "--model", str(model)]
    fixed = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
    assert main([*command, *fixed, "--format", "panoptic"]) == 0
    mask, numbers, segments = (
        np.asarray(nib.load(out / folder / "a.nii.gz").dataobj)
        for folder in (".", "instances", "panoptic")
    )
    assert numbers.max() > 1
    assert (mask == 4).any()
    np.testing.assert_array_equal(segments, np.where(mask == 4, numbers.max() + 1, numbers))
    written = SimpleITK.ReadImage(out / "panoptic/a.nii.gz")
    scan = SimpleITK.ReadImage(tmp_path / "a.nii.gz")
    for place in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, place)(), getattr(scan, place)(), atol=1e-5)


def test_masks_of_what_is_not_counted_are_not_panoptic(tmp_path: Path) -> None:
    labels = LabelScheme(values=(0, 1), names=("background", "organ"))
    with pytest.raises(AutosegError, match="count no objects"):
        extras_of_things(Extras(other_formats=OtherFormats(formats=("panoptic",))), labels, 1.0)


def test_the_command_line_has_every_other_format() -> None:
    for name in get_args(OtherFormat):
        options = make_parser().parse_args(["predict", "in", "out", "--format", name])
        assert options.format == [name]


def with_smallest(model: Path, path: Path, smallest_mm: float) -> Path:
    """The same model, whose plan says how wide an object is at least."""
    card, network = load_model(model)
    inference = card.configuration.inference.model_copy(update={"smallest_object_mm": smallest_mm})
    configuration = card.configuration.model_copy(update={"inference": inference})
    save_model(path, network, card.model_copy(update={"configuration": configuration}))
    return path


def test_specks_are_left_out_as_the_plan_or_the_user_says_and_the_rest_has_a_probability(
    tmp_path: Path, model: Path
) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    scan = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(noise, AFFINE), scan)
    line = ClassSureness(
        value=1, name="cell", intercept=-1, slope=2, objects=50, right_share=0.5, error=0.0,
        error_of_scores=0.1,
    )  # fmt: skip
    recipe = Recipe(sureness=ObjectSureness(classes=(line,), parts=5, iou=0.5))
    models = (with_smallest(model, tmp_path / "other.safetensors", 5.0),)
    found = {}
    for name, rule in (
        ("plan", InstanceRule()),
        ("volume", InstanceRule(min_volume_mm3=20.0, smallest_mm=0.0)),
        ("all", InstanceRule(smallest_mm=0.0)),
    ):
        predict_files(
            PredictJob(
                inputs=(scan,), output=tmp_path / name, models=models, recipe=recipe, device="cpu",
                precision="fp32", engine="torch", extras=Extras(instances=rule),
            )
        )  # fmt: skip
        found[name] = json.loads((tmp_path / name / "instances/a.json").read_text())
    widest = [one["diameter_mm"] for one in found["all"]]
    assert [one["diameter_mm"] for one in found["plan"]] == [mm for mm in widest if mm >= 5]
    volumes = [1000 * one["volume_ml"] for one in found["all"]]
    assert len(found["volume"]) == sum(volume >= 20 for volume in volumes) < len(volumes)
    for one in found["all"]:
        odds = np.log(one["score"] / (1 - one["score"])) if one["score"] < 1 else np.inf
        assert one["probability"] == pytest.approx(1 / (1 + np.exp(1 - 2 * odds)), abs=2e-3)


def test_a_model_of_things_writes_objects_that_lie_where_the_scan_does(
    tmp_path: Path, model: Path
) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (21, 27, 11)).astype(np.float32)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(noise, AFFINE), tmp_path / "in/a.nii.gz")
    fixed = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "in"), str(out), "--model", str(model), *fixed]) == 0
    image = SimpleITK.ReadImage(out / "instances/a.nii.gz")
    scan = SimpleITK.ReadImage(tmp_path / "in/a.nii.gz")
    assert image.GetSize() == scan.GetSize()
    assert "unsigned integer" in image.GetPixelIDTypeAsString()
    np.testing.assert_allclose(image.GetDirection(), scan.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), scan.GetOrigin(), atol=1e-5)
    numbers = SimpleITK.GetArrayFromImage(image)
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(out / "a.nii.gz"))
    objects = json.loads((out / "instances/a.json").read_text())
    assert objects and [one["number"] for one in objects] == list(range(1, numbers.max() + 1))
    np.testing.assert_array_equal(numbers > 0, labels == 1)  # tissue is no thing
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    for one in objects:
        assert one["name"] == "cell" and 1 / 3 < one["score"] <= 1
        size_mm3 = shapes.GetPhysicalSize(one["number"])
        assert one["volume_ml"] * 1000 == pytest.approx(size_mm3, rel=1e-4)
        radius_mm = shapes.GetEquivalentSphericalRadius(one["number"])
        assert one["diameter_mm"] == pytest.approx(2 * radius_mm, rel=1e-3)
        places = np.argwhere(numbers == one["number"])[:, ::-1] @ AFFINE[:3, :3].T
        farthest = pdist(places).max() if len(places) > 1 else 0
        assert one["feret_diameter_mm"] == pytest.approx(farthest, abs=1e-3)
        x, y, z = shapes.GetCentroid(one["number"])  # LPS
        assert one["centroid_ras_mm"] == pytest.approx([-x, -y, z], abs=1e-3)
        box = shapes.GetBoundingBox(one["number"])  # of the file's order
        assert one["box"]["start"] == list(box[2::-1])
        ends = np.add(box[:3], box[3:]) == scan.GetSize()
        assert one["at_image_border"] == (0 in box[:3] or ends.any())
        low, high = one["box_ras_mm"]
        sides = np.abs(AFFINE[:3, :3]) @ np.array(box[3:])
        assert np.subtract(high, low) == pytest.approx(sides, abs=1e-3)
