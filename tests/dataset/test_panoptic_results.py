import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.panoptic_results import Thing, write_panoptic
from autoseg.images.volume import Volume, read_labels

AFFINE = np.array([[0, -0.8, 0, 10], [0.7, 0, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
TISSUES = LabelScheme(
    values=(0, 1, 4, 7), names=("background", "cell", "tissue", "fat"), things=("cell",)
)


def mask_of(tmp_path: Path, values: list[int]) -> Volume:
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.array(values, np.uint8).reshape(1, 2, 4).T, AFFINE), path)
    return read_labels(path)


def test_objects_keep_their_numbers_and_stuff_has_those_that_follow(tmp_path: Path) -> None:
    mask = mask_of(tmp_path, [0, 1, 1, 4, 1, 0, 7, 4])
    numbers = np.array([0, 2, 1, 0, 0, 0, 0, 0], np.uint8).reshape(1, 2, 4)
    path = tmp_path / "panoptic/a.nii.gz"
    write_panoptic(path, mask, numbers, [Thing(1, 1, 0.5), Thing(2, 1, 0.25)], TISSUES)
    written = SimpleITK.ReadImage(path)
    assert SimpleITK.GetArrayFromImage(written).reshape(-1).tolist() == [0, 2, 1, 3, 0, 0, 4, 3]
    np.testing.assert_allclose(nib.load(path).affine, AFFINE)
    np.testing.assert_allclose(written.GetSpacing(), (0.7, 0.8, 2.0), rtol=1e-6)
    np.testing.assert_allclose(written.GetOrigin(), (-10, 20, 5))  # LPS
    table = json.loads((tmp_path / "panoptic/a.json").read_text())
    (annotation,) = table["annotations"]
    assert annotation["file_name"] == "a.nii.gz"
    assert annotation["segments_info"] == [
        {"id": 1, "category_id": 1, "iscrowd": 0, "score": 0.5, "area": 1},
        {"id": 2, "category_id": 1, "iscrowd": 0, "score": 0.25, "area": 1},
        {"id": 3, "category_id": 4, "iscrowd": 0, "area": 2},
        {"id": 4, "category_id": 7, "iscrowd": 0, "area": 1},
    ]
    assert [one["isthing"] for one in table["categories"]] == [1, 0, 0]


def test_a_border_is_a_part_of_its_object(tmp_path: Path) -> None:
    mask = mask_of(tmp_path, [0, 1, 1, 2, 2, 1, 1, 0])
    numbers = np.array([0, 1, 1, 1, 2, 2, 2, 0], np.uint8).reshape(1, 2, 4)
    path = tmp_path / "a.nii.gz"
    write_panoptic(path, mask, numbers, [Thing(1, 1, None), Thing(2, 1, None)], INSTANCE_SCHEME)
    np.testing.assert_array_equal(read_labels(path).array, numbers)
    table = json.loads((tmp_path / "a.json").read_text())
    assert table["categories"] == [{"id": 1, "name": "object", "isthing": 1}]
    assert [one["area"] for one in table["annotations"][0]["segments_info"]] == [3, 3]
