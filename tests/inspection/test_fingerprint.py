import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import make_fingerprint


def load(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).T


def test_statistics_equal_those_of_all_voxels(synthetic_dataset: Path) -> None:
    fingerprint = make_fingerprint(open_dataset(synthetic_dataset), workers=1)
    images = sorted((synthetic_dataset / "imagesTr").iterdir())
    labels = sorted((synthetic_dataset / "labelsTr").iterdir())
    cases = [load(i)[load(m) > 0] for i, m in zip(images, labels, strict=True)]
    # Cases weigh equally: repeat each to the same length.
    pooled = np.concatenate([np.resize(np.sort(values), 100_000) for values in cases])
    stats = fingerprint.foreground_intensity[0]
    assert stats.mean == pytest.approx(np.mean([c.mean() for c in cases]), rel=1e-5)
    assert stats.min == pytest.approx(min(c.min() for c in cases))
    assert stats.max == pytest.approx(max(c.max() for c in cases))
    assert stats.std == pytest.approx(pooled.std(), rel=0.01)
    assert stats.median == pytest.approx(np.median(pooled), abs=0.02 * stats.std)
    assert stats.percentile_99_5 == pytest.approx(np.percentile(pooled, 99.5), abs=0.1 * stats.std)


def test_class_imbalance_and_components_agree_with_scipy(synthetic_dataset: Path) -> None:
    fingerprint = make_fingerprint(open_dataset(synthetic_dataset), workers=1)
    lesion = fingerprint.classes[2]
    volumes, voxels, foreground = [], 0, 0
    for path in (synthetic_dataset / "labelsTr").iterdir():
        labels = load(path)
        components, _count = ndimage.label(labels == 3, np.ones((3, 3, 3)))
        volumes += list(np.bincount(components.ravel())[1:] * 3.0)
        voxels += (labels == 3).sum()
        foreground += (labels > 0).sum()
    assert lesion.name == "lesion"
    assert lesion.foreground_fraction == pytest.approx(voxels / foreground)
    assert lesion.component_volume_mm3_median == pytest.approx(np.median(volumes))
    assert lesion.component_volume_mm3_p95 == pytest.approx(np.percentile(volumes, 95))


def test_workers_change_nothing(synthetic_dataset: Path) -> None:
    dataset = open_dataset(synthetic_dataset)
    assert make_fingerprint(dataset, workers=1) == make_fingerprint(dataset, workers=2)


def test_labels_on_another_grid_and_undeclared_values_are_all_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3, shape_vox=(20, 20, 10))
    moved = tmp_path / "labelsTr" / "case_000.nii.gz"
    image = nib.load(moved)
    affine = image.affine.copy()
    affine[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), moved)
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["labels"] = {"background": 0, "organ": 1, "lesion": 3}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(AutosegError) as error:
        make_fingerprint(open_dataset(tmp_path), workers=1)
    assert "case_000.nii.gz: the label lies on another grid" in str(error.value)
    assert "case_001" in str(error.value)
    assert "contains label values 2, but the dataset declares 0, 1, 3" in str(error.value)
