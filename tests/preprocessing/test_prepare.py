"""Covers: locations, placing, prepared_case."""

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.machine import machine_without_gpu
from autoseg.planning.grid_plan import GridPlan
from autoseg.preprocessing.placing import prepare_scan
from autoseg.preprocessing.prepare import Target, preparation_hash, prepare_cases
from autoseg.preprocessing.store import open_case
from tests.planning.specified import plan_of


@pytest.fixture(scope="module")
def grid_plan(synthetic_dataset: Path) -> GridPlan:
    fingerprint = make_fingerprint(open_dataset(synthetic_dataset), workers=1)
    plan = plan_of(fingerprint, "cpu", machine_without_gpu())
    return plan.configurations["3d_fullres"].grid


def declared(dataset: Dataset) -> LabelScheme:
    assert dataset.labels is not None
    return dataset.labels


def changed(plan: GridPlan, **fields: Any) -> GridPlan:
    return plan.model_copy(update=fields)


def masked(plan: GridPlan) -> GridPlan:
    channels = tuple(c.model_copy(update={"masked": True}) for c in plan.normalization)
    return changed(plan, normalization=channels)


def test_only_what_is_missing_or_changed_is_prepared(tmp_path: Path, grid_plan: GridPlan) -> None:
    write_dataset(tmp_path / "data", 3, shape_vox=(24, 24, 10))
    dataset = open_dataset(tmp_path / "data")

    def prepare() -> int:
        return prepare_cases(
            dataset.cases, declared(dataset), [Target(grid_plan, tmp_path / "out")], 1
        )

    assert prepare() == 3
    assert prepare() == 0
    label = tmp_path / "data" / "labelsTr" / "case_001.nii.gz"
    image = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), label)
    assert prepare() == 1
    assert not open_case(tmp_path / "out" / "case_001.prepared").class_locations


def test_workers_store_the_same_voxels(
    tmp_path: Path, synthetic_dataset: Path, grid_plan: GridPlan
) -> None:
    dataset = open_dataset(synthetic_dataset)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        prepare_cases(dataset.cases, declared(dataset), [Target(grid_plan, folder)], workers)
    for case in dataset.cases:
        one, two = (open_case(tmp_path / w / f"{case.case_id}.prepared") for w in ("1", "2"))
        np.testing.assert_array_equal(one.image[:], two.image[:])
        found, expected = one.class_locations[1], two.class_locations[1]
        assert len(found) == len(expected)
        np.testing.assert_array_equal(found[len(found) // 2], expected[len(found) // 2])


def test_a_failing_case_is_named_and_the_others_are_stored(
    tmp_path: Path, grid_plan: GridPlan
) -> None:
    write_dataset(tmp_path / "data", 3, shape_vox=(24, 24, 10))
    dataset = open_dataset(tmp_path / "data")
    image = tmp_path / "data" / "imagesTr" / "case_001_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(AutosegError, match=r"case_001_0000\.nii\.gz: cannot be read"):
        prepare_cases(dataset.cases, declared(dataset), [Target(grid_plan, tmp_path / "out")], 2)
    stored = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert stored == ["case_000.prepared", "case_002.prepared"]


def test_only_settings_that_matter_change_the_hash(
    synthetic_dataset: Path, grid_plan: GridPlan
) -> None:
    labels = declared(open_dataset(synthetic_dataset))
    original = preparation_hash(grid_plan, labels)
    renamed = labels.model_copy(update={"names": tuple(f"{name}s" for name in labels.names)})
    assert preparation_hash(grid_plan.model_copy(), renamed) == original
    for update in ({"ignore": 9}, {"instances": True}, {"values": (0, 1, 2, 4)}):
        assert preparation_hash(grid_plan, labels.model_copy(update=update)) != original
    spacing = changed(grid_plan, target_spacing_mm=(4.0, 2.0, 2.0))
    assert preparation_hash(spacing, labels) != original


def test_empty_borders_are_cropped_and_the_box_is_remembered(
    grid_plan: GridPlan,
) -> None:
    image = np.zeros((1, 20, 30, 30), np.float32)
    image[0, 4:14, 5:25, 6:26] = np.random.default_rng(0).uniform(1, 2, (10, 20, 20))
    grid = Grid((20, 30, 30), np.diag([1.0, 1.0, 3.0, 1.0]))
    prepared = prepare_scan(image, None, grid, grid_plan, "case")
    assert prepared.placement.crop.start == (4, 5, 6)
    assert prepared.image.shape == (1, 10, 20, 20)
    assert image.max() > 1  # the scan itself is untouched


def test_a_flipped_scan_is_turned_to_the_canonical_axes(grid_plan: GridPlan) -> None:
    image = np.random.default_rng(0).normal(size=(1, 10, 20, 20)).astype(np.float32)
    straight = prepare_scan(
        image, None, Grid((10, 20, 20), np.diag([1.0, 1.0, 3.0, 1.0])), grid_plan, "case"
    )
    flipped = prepare_scan(
        image[..., ::-1].copy(),
        None,
        Grid((10, 20, 20), np.diag([-1.0, 1.0, 3.0, 1.0])),
        grid_plan,
        "case",
    )
    np.testing.assert_array_equal(straight.image, flipped.image)


def test_the_outside_is_a_mask_and_never_a_label(grid_plan: GridPlan) -> None:
    image = np.ones((1, 10, 20, 20), np.float32)
    image[0, 0, :10, :10] = 0  # a corner outside the body
    classes = np.zeros((10, 20, 20), np.uint8)
    classes[0, 0, 0] = 1  # a labelled voxel out there is inside all the same
    classes[5, 5, 5] = 2
    grid = Grid((10, 20, 20), np.diag([1.0, 1.0, 3.0, 1.0]))
    prepared = prepare_scan(image, classes, grid, masked(grid_plan), "case")
    assert prepared.label is not None
    assert prepared.outside_mask is not None
    np.testing.assert_array_equal(prepared.label, classes)
    assert prepared.outside_mask.sum() == 99
    assert not prepared.outside_mask[0, 0, 0]


def test_locations_are_voxels_of_their_class(grid_plan: GridPlan) -> None:
    classes = np.random.default_rng(0).integers(0, 3, (10, 20, 20)).astype(np.uint8)
    image = np.ones((1, 10, 20, 20), np.float32)
    grid = Grid((10, 20, 20), np.diag([1.0, 1.0, 3.0, 1.0]))
    prepared = prepare_scan(image, classes, grid, grid_plan, "case")
    assert prepared.label is not None
    assert set(prepared.class_locations) == {1, 2}
    for value, voxels in prepared.class_locations.items():
        assert (prepared.label[tuple(voxels.T)] == value).all()
        assert len(voxels) == (prepared.label == value).sum()


def test_scans_near_the_target_spacing_may_be_left_as_they_are(
    grid_plan: GridPlan,
) -> None:
    keeping = grid_plan.resampling.model_copy(update={"keep_within": 0.05})
    keep = changed(grid_plan, resampling=keeping)
    scan = np.random.default_rng(0).normal(size=(1, 14, 36, 40)).astype(np.float32)
    target = np.array(grid_plan.target_spacing_mm)
    for factor, shape in ((1.04, scan.shape[1:]), (1.06, None)):
        grid = Grid((14, 36, 40), np.diag([*(target * factor)[::-1], 1.0]))
        prepared = prepare_scan(scan, None, grid, keep, "a")
        assert (prepared.image.shape[1:] == scan.shape[1:]) == (shape is not None)
    assert prepare_scan(scan, None, grid, grid_plan, "a").image.shape != scan.shape


def test_voxels_that_nobody_annotated_keep_their_mark(grid_plan: GridPlan) -> None:
    classes = np.zeros((14, 36, 40), np.uint8)
    classes[:7] = IGNORED
    classes[10:, 10:20, 10:20] = 2
    scan = np.random.default_rng(0).normal(size=(1, *classes.shape)).astype(np.float32)
    coarser = np.diag([*np.array(grid_plan.target_spacing_mm)[::-1] * 1.5, 1.0])
    prepared = prepare_scan(scan, classes, Grid((14, 36, 40), coarser), grid_plan, "a")
    assert prepared.label is not None
    assert set(np.unique(prepared.label)) == {0, 2, IGNORED}
    assert list(prepared.class_locations) == [2]


def test_a_scan_that_no_memory_holds_is_named_with_its_spacing(
    grid_plan: GridPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid((8, 9, 10), np.diag([1000.0, 1000.0, 1000.0, 1.0]))
    image = np.ones((1, 8, 9, 10), np.float32)
    monkeypatch.setattr("autoseg.preprocessing.placing.free_memory_gib", lambda: 0.5)
    told = r"far: resampled from 1000 x 1000 x 1000 mm .* GiB, where 0 GiB .*spacing in its header"
    with pytest.raises(AutosegError, match=told):
        prepare_scan(image, None, grid, grid_plan, "far")


def test_a_scan_that_cannot_be_normalised_is_named(grid_plan: GridPlan) -> None:
    image = np.full((1, 8, 9, 10), 3.4e38, np.float32)
    image[0, 1, 1, 1] = -3.4e38
    target = grid_plan.target_spacing_mm
    grid = Grid((8, 9, 10), np.diag([*target[::-1], 1.0]))
    with np.errstate(all="ignore"), pytest.raises(AutosegError, match="huge: its intensities"):
        prepare_scan(image, None, grid, grid_plan, "huge")


def test_a_case_is_prepared_as_its_files_say_wherever_they_lie(
    tmp_path: Path, grid_plan: GridPlan
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(24, 24, 10))
    target = Target(grid_plan, tmp_path / "out")
    dataset = open_dataset(tmp_path / "data")
    assert prepare_cases(dataset.cases, declared(dataset), [target], 1) == 2
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = open_dataset(tmp_path / "moved")
    assert prepare_cases(moved.cases, declared(moved), [target], 1) == 0
    os.utime(tmp_path / "moved" / "labelsTr" / "case_001.nii.gz", (0, 0))
    assert prepare_cases(moved.cases, declared(moved), [target], 1) == 1
