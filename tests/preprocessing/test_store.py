import dataclasses
from pathlib import Path

import numpy as np
import pytest

from autoseg.geometry import Box, Placement
from autoseg.preprocessing.store import (
    DamagedCaseError,
    PreparedCase,
    SourceFile,
    open_case,
    stored_placement,
    stored_sources,
    with_previous,
    write_case,
    write_mask,
)

SHAPE = (20, 70, 65)
SOURCES = (SourceFile(path="scan.nii.gz", size_bytes=10, modified_ns=5),)


@pytest.fixture
def case() -> PreparedCase:
    rng = np.random.default_rng(0)
    return PreparedCase(
        image=rng.normal(size=(2, *SHAPE)).astype(np.float32),
        label=rng.integers(0, 4, SHAPE).astype(np.uint8),
        outside_mask=rng.random(SHAPE) < 0.5,
        class_locations={1: np.array([[1, 2, 3]], np.uint16)},
        annotated_locations=np.array([[4, 5, 6], [7, 8, 9]], np.uint16),
        previous_label=None,
        placement=Placement(
            source_shape_vox=SHAPE,
            flipped_axes=(),
            axis_order=(0, 1, 2),
            crop=Box(start=(0, 0, 0), stop=SHAPE),
            resampled_shape_vox=SHAPE,
            source_spacing_mm=(1, 1, 1),
            target_spacing_mm=(1, 1, 1),
        ),
    )


@pytest.mark.parametrize("loaded", [False, True])
def test_a_patch_that_leaves_the_case_is_padded(
    tmp_path: Path, case: PreparedCase, loaded: bool
) -> None:
    write_case(tmp_path / "a", case, SOURCES)
    stored = open_case(tmp_path / "a")
    stored = stored.loaded() if loaded else stored
    patch = stored.read(Box(start=(-3, 10, 60), stop=(5, 75, 80)))
    assert case.label is not None
    assert case.outside_mask is not None
    padding = [(3, 0), (0, 5), (0, 15)]
    inside = (slice(0, 5), slice(10, 70), slice(60, 65))
    half = case.image.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(patch.image, np.pad(half[:, *inside], [(0, 0), *padding]))
    assert patch.image.dtype == np.float32
    np.testing.assert_array_equal(patch.label, np.pad(case.label[inside], padding))
    np.testing.assert_array_equal(
        patch.outside, np.pad(case.outside_mask[inside], padding, constant_values=True)
    )


def test_a_box_wholly_beyond_the_case_is_empty(tmp_path: Path, case: PreparedCase) -> None:
    write_case(tmp_path / "a", case, SOURCES)
    patch = open_case(tmp_path / "a").read(Box(start=(30, 0, 0), stop=(40, 8, 8)))
    assert patch.image.shape == (2, 10, 8, 8)
    assert not patch.image.any()
    assert not patch.label.any()


def test_sources_and_locations_are_kept(tmp_path: Path, case: PreparedCase) -> None:
    assert stored_sources(tmp_path / "a") is None
    write_case(tmp_path / "a", case, SOURCES)
    assert stored_sources(tmp_path / "a") == SOURCES
    opened = open_case(tmp_path / "a")
    np.testing.assert_array_equal(opened.class_locations[1], [[1, 2, 3]])
    np.testing.assert_array_equal(opened.annotated_locations, [[4, 5, 6], [7, 8, 9]])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_large_numbers_keep_their_precision(tmp_path: Path, case: PreparedCase) -> None:
    large = dataclasses.replace(case, image=case.image * 1e5)
    write_case(tmp_path / "a", large, SOURCES)
    patch = open_case(tmp_path / "a").read(Box(start=(0, 0, 0), stop=SHAPE))
    np.testing.assert_array_equal(patch.image, large.image)


def test_any_flipped_byte_is_found(tmp_path: Path, case: PreparedCase) -> None:
    path = tmp_path / "a"
    write_case(path, case, SOURCES)
    content = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position) % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedCaseError, match=str(path)):
            open_case(path)
    for length in (0, 7, 300, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedCaseError):
            open_case(path)


@pytest.mark.parametrize("loaded", [False, True])
def test_the_mask_of_a_previous_stage_lies_beside_its_case(
    tmp_path: Path, case: PreparedCase, loaded: bool
) -> None:
    write_case(tmp_path / "a", case, SOURCES)
    classes = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    write_mask(tmp_path / "mask", classes, case.placement, SOURCES)
    stored = with_previous(open_case(tmp_path / "a"), tmp_path / "mask")
    patch = (stored.loaded() if loaded else stored).read(Box(start=(-3, 0, 0), stop=(5, 70, 65)))
    np.testing.assert_array_equal(patch.previous, np.pad(classes[:5], [(3, 0), (0, 0), (0, 0)]))
    assert stored_placement(tmp_path / "a") == case.placement
