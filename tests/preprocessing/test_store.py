"""Covers: parts."""

import pickle
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.geometry import Box, Placement
from autoseg.preprocessing.parts import DamagedCaseError, Pieces, tiles_vox
from autoseg.preprocessing.prepared_case import PreparedCase
from autoseg.preprocessing.store import (
    SourceFile,
    _read_info,
    is_stored,
    open_case,
    stored_placement,
    verify_case,
    with_map,
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
    write_case(tmp_path / "a", case, SOURCES, 3)
    stored = open_case(tmp_path / "a")
    stored = stored.loaded() if loaded else stored
    patch = stored.read(Box(start=(-3, 10, 60), stop=(5, 75, 80)))
    assert case.label is not None
    assert case.outside_mask is not None
    padding = [(3, 0), (0, 5), (0, 15)]
    inside = (slice(0, 5), slice(10, 70), slice(60, 65))
    half = case.image.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(patch.image, np.pad(half[:, *inside], [(0, 0), *padding]))
    assert patch.image.dtype == np.float16  # as it is stored
    np.testing.assert_array_equal(patch.label, np.pad(case.label[inside], padding))
    np.testing.assert_array_equal(
        patch.outside, np.pad(case.outside_mask[inside], padding, constant_values=True)
    )


def test_a_box_wholly_beyond_the_case_is_empty(tmp_path: Path, case: PreparedCase) -> None:
    write_case(tmp_path / "a", case, SOURCES, 3)
    patch = open_case(tmp_path / "a").read(Box(start=(30, 0, 0), stop=(40, 8, 8)))
    assert patch.image.shape == (2, 10, 8, 8)
    assert not patch.image.any()
    assert not patch.label.any()


def test_sources_and_locations_are_kept(tmp_path: Path, case: PreparedCase) -> None:
    assert not is_stored(tmp_path / "a", SOURCES)
    write_case(tmp_path / "a", case, SOURCES, 3)
    assert is_stored(tmp_path / "a", SOURCES)
    opened = open_case(tmp_path / "a")
    np.testing.assert_array_equal(opened.class_locations[1][0], [1, 2, 3])
    assert opened.annotated_locations is not None
    assert len(opened.annotated_locations) == 2
    np.testing.assert_array_equal(opened.annotated_locations[1], [7, 8, 9])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_large_numbers_keep_their_precision(tmp_path: Path, case: PreparedCase) -> None:
    large = replace(case, image=case.image * 1e5)
    write_case(tmp_path / "a", large, SOURCES, 3)
    patch = open_case(tmp_path / "a").read(Box(start=(0, 0, 0), stop=SHAPE))
    np.testing.assert_array_equal(patch.image, large.image)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


def place_of(path: Path, name: str) -> int:
    """Where a part begins in a file."""
    info, start = _read_info(path)
    return start + dict(info.parts())[name].offset


def test_any_flipped_byte_is_found_by_verifying(tmp_path: Path, case: PreparedCase) -> None:
    path = tmp_path / "a"
    write_case(path, case, SOURCES, 3)
    verify_case(path)
    content = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 60):
        flip(path, int(position))
        with pytest.raises(DamagedCaseError, match=str(path)):
            verify_case(path)
        path.write_bytes(content)


def test_a_damaged_beginning_or_another_length_is_found_at_opening(
    tmp_path: Path, case: PreparedCase
) -> None:
    path = tmp_path / "a"
    write_case(path, case, SOURCES, 3)
    content = path.read_bytes()
    cut = [content[:length] for length in (0, 7, 300, len(content) - 1)]
    for damaged in (*cut, content + b"0", content[:50] + b"!" + content[51:]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedCaseError, match="prepare --verify"):
            open_case(path)
        assert not is_stored(path, SOURCES)


def test_damage_is_found_by_the_first_read_that_touches_it(
    tmp_path: Path, case: PreparedCase
) -> None:
    path = tmp_path / "a"
    write_case(path, case, SOURCES, 3)
    info, start = _read_info(path)
    head, first, *_ = info.arrays["label"].sizes_bytes
    flip(path, start + info.arrays["label"].offset + head + first - 1)  # within the first chunk
    opened = open_case(path)
    far = opened.read(Box(start=(0, 64, 0), stop=(20, 70, 65)))
    assert case.label is not None
    np.testing.assert_array_equal(far.label, case.label[:, 64:])
    with pytest.raises(DamagedCaseError, match=r"a: label: is not what was written.*--verify"):
        opened.read(Box(start=(0, 60, 0), stop=(20, 70, 65)))


def test_a_chunk_is_checked_once(
    tmp_path: Path, case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path / "a", case, SOURCES, 3)
    opened = open_case(tmp_path / "a")
    checked: list[int] = []
    monkeypatch.setattr(Pieces, "check", lambda _, numbers: checked.extend(numbers))
    opened.label[0:5, 0:5, 0:5]
    assert checked == [0, 5, 1]  # head and index, and one of four chunks
    opened.label[0:5, 0:5, 0:5]
    assert len(checked) == 3
    opened.label[:]
    assert checked[3:] == [2, 3, 4]


def test_a_file_that_reads_back_otherwise_never_appears(
    tmp_path: Path, case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pieces, "_checksum", lambda *_: -1)
    with pytest.raises(AutosegError, match="a: read back it is not what was written"):
        write_case(tmp_path / "a", case, SOURCES, 3)
    assert not list(tmp_path.iterdir())


def test_an_opened_case_holds_no_voxels_but_reads_one(tmp_path: Path, case: PreparedCase) -> None:
    voxels = np.random.default_rng(1).integers(0, 20, (10_000, 3)).astype(np.uint8)
    write_case(tmp_path / "a", replace(case, class_locations={1: voxels}), SOURCES, 3)
    opened = open_case(tmp_path / "a")
    assert len(opened.class_locations[1]) == 10_000
    np.testing.assert_array_equal(opened.class_locations[1][4321], voxels[4321])
    assert len(pickle.dumps(opened.class_locations)) < 2000
    with pytest.raises(IndexError):
        opened.class_locations[1][10_000]


def test_damaged_voxels_are_found_by_the_first_draw(tmp_path: Path, case: PreparedCase) -> None:
    for name in ("voxels of class 1", "annotated voxels"):
        write_case(tmp_path / "a", case, SOURCES, 3)
        flip(tmp_path / "a", place_of(tmp_path / "a", name))
        opened = open_case(tmp_path / "a")
        voxels = {1: opened.class_locations[1], 0: opened.annotated_locations}[name[0] == "v"]
        with pytest.raises(DamagedCaseError, match=f"a: {name}: is not what was written"):
            assert voxels is not None and voxels[0]


@pytest.mark.parametrize(
    ("spacing_mm", "chunk", "block"),
    [
        ((1.1, 1.0, 1.0), (64, 64, 64), (32, 32, 32)),
        ((3.0, 0.8, 0.8), (32, 128, 128), (16, 64, 64)),
        ((0.7, 0.7), (1, 512, 512), (1, 256, 256)),
    ],
)
def test_blocks_follow_the_spacing(
    spacing_mm: tuple[float, ...], chunk: tuple[int, ...], block: tuple[int, ...]
) -> None:
    assert tiles_vox((300, 512, 512), spacing_mm) == (chunk, block)


def test_a_slice_of_a_2d_configuration_is_a_block(tmp_path: Path, case: PreparedCase) -> None:
    for spatial_dims, depth in ((2, 1), (3, 20)):
        write_case(tmp_path / "a", case, SOURCES, spatial_dims)
        info, start = _read_info(tmp_path / "a")
        offset = start + info.arrays["label"].offset
        label = blosc2.open(str(tmp_path / "a"), mode="r", offset=offset)
        assert label.blocks[0] == depth
        np.testing.assert_array_equal(label[:], case.label)


@pytest.mark.parametrize("loaded", [False, True])
def test_the_mask_of_a_previous_stage_lies_beside_its_case(
    tmp_path: Path, case: PreparedCase, loaded: bool
) -> None:
    write_case(tmp_path / "a", case, SOURCES, 3)
    classes = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    write_mask(tmp_path / "mask", classes, case.placement, SOURCES, 3)
    stored = with_map(open_case(tmp_path / "a"), "stage_mask", tmp_path / "mask")
    patch = (stored.loaded() if loaded else stored).read(Box(start=(-3, 0, 0), stop=(5, 70, 65)))
    np.testing.assert_array_equal(
        patch.maps["stage_mask"], np.pad(classes[:5], [(3, 0), (0, 0), (0, 0)])
    )
    assert stored_placement(tmp_path / "a") == case.placement


@pytest.mark.parametrize("count", [3, 70_000])
def test_objects_are_read_by_the_patch(tmp_path: Path, case: PreparedCase, count: int) -> None:
    objects = np.zeros(SHAPE, np.min_scalar_type(256 if count < 256 else count))
    objects[3:9, 5:20, 60:] = count
    write_case(tmp_path / "a", replace(case, objects=objects), SOURCES, 3)
    stored = open_case(tmp_path / "a")
    for opened in (stored, stored.loaded()):
        patch = opened.read(Box(start=(-1, 0, 55), stop=(8, 30, 70)))
        assert patch.objects is not None and patch.objects.dtype == np.int32
        padded = np.pad(objects[:8, :30, 55:], [(1, 0), (0, 0), (0, 5)])
        np.testing.assert_array_equal(patch.objects, padded)
