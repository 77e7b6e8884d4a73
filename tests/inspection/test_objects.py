import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from skimage.draw import disk, ellipse
from skimage.measure import label, regionprops

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.inspection.case import inspect_case
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.inspection.objects import measure_objects, object_mistakes


def crescents() -> np.ndarray:
    """An ellipse, a disk that touches it, and a crescent apart, as numbers [1, y, x]."""
    numbers = np.zeros((1, 90, 90), np.uint16)
    numbers[0][ellipse(25, 20, 18, 12)] = 1
    numbers[0][disk((25, 42), 10.5)] = 2
    numbers[0][disk((65, 60), 18)] = 3
    numbers[0][disk((65, 70), 14)] = 0
    return numbers


def test_objects_are_measured_as_scikit_image_does() -> None:
    numbers = crescents()
    found = measure_objects(numbers, (numbers > 0).astype(np.uint8), (1, 0.5, 0.5), 2)
    regions = regionprops(numbers[0], spacing=(0.5, 0.5))
    assert found.diameter_mm == pytest.approx([r.equivalent_diameter_area for r in regions])
    assert found.touches.tolist() == [True, True, False]
    # its hulls are of pixels drawn, ours of their outlines
    assert found.solidity == pytest.approx([r.solidity for r in regions], abs=0.04)
    assert found.in_box.tolist() == [0, 3]
    edges = np.array([r.bbox for r in regions])
    assert found.sizes_vox[:, 1:].tolist() == (edges[:, 2:] - edges[:, :2]).tolist()
    assert found.sizes_vox[:, 0].tolist() == [1, 1, 1]


def test_a_box_is_convex_and_an_l_is_not() -> None:
    numbers = np.zeros((6, 12, 8), np.uint16)
    numbers[1:4, 1:4, 1:5] = 1
    numbers[1:3, 5:9, 1:5] = 2
    numbers[1:3, 7:9, 3:5] = 0  # the hull of an L keeps half of what is taken away
    found = measure_objects(numbers, (numbers > 0).astype(np.uint8), (1, 1, 1), 2)
    assert found.solidity == pytest.approx([1, 12 / 14])


def test_mistakes_of_numbers_are_found() -> None:
    numbers, classes = np.zeros((1, 8, 8), np.uint16), np.zeros((1, 8, 8), np.uint8)
    numbers[0, 0:2, 0:2] = numbers[0, 5:7, 5:7] = 1
    numbers[0, 0:2, 4:6], numbers[0, 4, 1] = 2, 3
    classes[numbers > 0] = 1
    classes[0, 0:2, 5] = 2
    kinds = [kind for kind, _, _ in object_mistakes(numbers, classes, 3, one_class=False)]
    assert kinds == ["object_in_pieces", "object_of_two_classes", "object_of_one_voxel"]
    assert label(numbers[0] == 1).max() == 2
    clean = crescents()
    assert not list(object_mistakes(clean, (clean > 0).astype(np.uint8), 2, one_class=False))


def test_numbers_and_labels_that_contradict_each_other_are_found(tmp_path: Path) -> None:
    numbers, label = np.zeros((6, 20, 20), np.uint16), np.zeros((6, 20, 20), np.uint8)
    numbers[1:4, 2:6, 2:6], numbers[1:4, 2:6, 10:14] = 7, 300
    label[1:4, 2:6, 2:6], label[1:4, 12:15, 2:6] = 1, 1  # the second object is on background
    label[1, 2, 2:5] = 0  # of the first one three voxels are
    label[5], numbers[5] = 9, 12  # of what nobody annotated nothing is said
    scan = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    for folder, array in (("images", scan), ("labels", label), ("instances", numbers)):
        (tmp_path / folder).mkdir()
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), tmp_path / folder / "a.nii.gz")
    described = {"labels": {"background": 0, "cell": 1, "ignore": 9}, "things": ["cell"]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    dataset = open_dataset(tmp_path)
    problems = inspect_case(dataset.cases[0], dataset.labels).problems
    told = {problem.kind: problem.what for problem in problems}
    assert "an object (300)" in told["object_without_class"]
    assert "3 voxels lie where" in told["object_beyond_its_class"]
    assert "no number to 36 voxels" in told["thing_without_number"]


def test_the_fingerprint_knows_objects_of_things(tmp_path: Path) -> None:
    for name, numbers in {"a": crescents(), "b": crescents() % 3}.items():
        image = np.random.default_rng(0).integers(0, 200, numbers.shape[1:], np.uint8)
        for folder, array in (("images", image), ("instances", numbers[0])):
            (tmp_path / folder).mkdir(exist_ok=True)
            SimpleITK.WriteImage(
                SimpleITK.GetImageFromArray(array), tmp_path / folder / f"{name}.png"
            )
    stats = make_fingerprint(open_dataset(tmp_path), workers=1).classes
    assert stats[0].objects is not None and stats[1].objects is None  # the border is no thing
    assert (stats[0].objects.per_scan_max, stats[0].objects.per_scan_median) == (3, 2.5)
    assert stats[0].objects.touching_fraction == pytest.approx(4 / 5)
    assert json.loads(stats[0].objects.model_dump_json())["in_patch_max"] == 3
