from pathlib import Path

import numpy as np

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import LABELS, make_scan, write_dataset


def test_a_seed_gives_the_same_scan_and_another_one_another() -> None:
    first, again, other = make_scan(3), make_scan(3), make_scan(4)
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)
    assert set(np.unique(first.labels)) == set(LABELS.values())


def test_scans_are_anisotropic_as_asked() -> None:
    scan = make_scan(0, (20, 18, 6), slice_mm=5.0)
    assert scan.image.shape == (20, 18, 6)
    assert np.diag(scan.affine_ras_mm).tolist() == [1, 1, 5, 1]


def test_the_dataset_opens_as_nnunets(tmp_path: Path) -> None:
    write_dataset(tmp_path, 2, (20, 18, 6))
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, len(dataset.cases)) == ("nnunet_raw", 2)
    assert dataset.labels is not None and dataset.labels.names == tuple(LABELS)
