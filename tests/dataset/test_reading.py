"""Files of a case are laid on its first one, where that takes no guess."""

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.reading import aligned, read_case, read_channels
from autoseg.errors import AutosegError
from autoseg.images.volume import read_image, read_labels
from tests.images.made import OBLIQUE, SCAN, save_nifti

TURNS = [
    np.array(list(zip(order, signs, strict=True)))
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def save_turned(path: Path, array: Any, turn: Any) -> Path:
    """The same voxels in another order, by nibabel."""
    turned = apply_orientation(array, turn)
    affine = OBLIQUE @ inv_ornt_aff(turn, array.shape)
    nib.save(nib.Nifti1Image(turned, affine), path)
    return path


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_label_in_any_order_of_voxels_is_turned_to_its_scan(tmp_path: Path, turn: Any) -> None:
    scan = read_image(save_nifti(tmp_path / "scan.nii", SCAN.T))
    classes = (SCAN > 0).astype(np.uint8)
    label = read_labels(save_turned(tmp_path / "label.nii", classes.T, turn))
    found = aligned(label, scan)
    np.testing.assert_array_equal(found.array, classes)
    assert found.array.flags.c_contiguous
    same = (turn == TURNS[0]).all()
    assert [oddity.kind for oddity in found.oddities] == ([] if same else ["turned_label"])


def case_of(folder: Path, label: Path, *images: Path) -> Case:
    return Case("a", tuple(ChannelSource(image) for image in images), label, "a")


def test_channels_and_label_are_read_on_one_grid_with_what_was_decided(tmp_path: Path) -> None:
    first = save_nifti(tmp_path / "t1.nii", SCAN.T)
    second = save_turned(tmp_path / "t2.nii", SCAN.T, TURNS[9])
    label = save_turned(tmp_path / "label.nii", (SCAN > 0).astype(np.uint8).T, TURNS[17])
    image, classes = read_case(case_of(tmp_path, label, first, second))
    np.testing.assert_array_equal(image.array[0], image.array[1])
    np.testing.assert_array_equal(classes.array, SCAN > 0)
    assert [oddity.what.split(":")[0] for oddity in image.oddities] == ["t2.nii"]


def test_a_label_that_states_no_place_lies_where_its_scan_lies(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "scan.nii", SCAN.T)
    classes = (SCAN > 0).astype(np.uint8).T
    label = save_nifti(tmp_path / "label.nii", classes, qform_code=0, sform_code=0)
    _, found = read_case(case_of(tmp_path, label, image))
    np.testing.assert_array_equal(found.grid.affine_ras_mm, read_image(image).grid.affine_ras_mm)
    assert [o.kind for o in found.oddities] == ["no_orientation", "turned_label"]


def test_a_label_that_lies_elsewhere_is_refused_though_it_has_the_shape(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "scan.nii", SCAN.T)
    moved = OBLIQUE.copy()
    moved[0, 3] += 3
    label = save_nifti(tmp_path / "label.nii", (SCAN > 0).astype(np.uint8).T, moved)
    with pytest.raises(AutosegError, match=r"another grid than scan\.nii"):
        read_case(case_of(tmp_path, label, image))


def test_what_a_single_file_says_is_told_with_its_name(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", SCAN.T)
    path.write_bytes(path.read_bytes() + b"more")
    case = Case("a", (ChannelSource(path, None),), None, "a")
    assert read_channels(case).oddities[0].what.startswith("scan.nii: holds 4 bytes more")


def test_oblique_grids_and_shifted_ones_are_not_turned(tmp_path: Path) -> None:
    scan = read_image(save_nifti(tmp_path / "a.nii", SCAN.T, np.eye(4)))
    shifted, angle = np.eye(4), np.eye(4)
    shifted[0, 3] = 1
    angle[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    for affine in (shifted, angle):
        other = read_image(save_nifti(tmp_path / "b.nii", SCAN.T, affine))
        assert aligned(other, scan) is other


def test_a_label_without_a_place_is_never_mirrored_onto_a_scan_that_is_centred(
    tmp_path: Path,
) -> None:
    centred = np.eye(4)
    centred[:3, 3] = [-(size - 1) / 2 for size in SCAN.T.shape]
    scan = read_image(save_nifti(tmp_path / "scan.nii", SCAN.T, centred))
    classes = (SCAN > 0).astype(np.uint8)
    label = save_nifti(tmp_path / "label.nii", classes.T, qform_code=0, sform_code=0, srow_x=0)
    found = aligned(read_labels(label), scan)
    np.testing.assert_array_equal(found.array, classes)
