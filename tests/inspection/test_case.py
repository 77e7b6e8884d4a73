"""Covers: cached, statistics."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import autoseg.inspection.cached
from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import write_dataset
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.case import Inspection, inspect_case

SCHEME = LabelScheme(values=(0, 1, 2), names=("background", "organ", "lesion"), ignore=3)
SHAPE = (8, 9, 10)


def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def blocks() -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:4, 1:4], labels[6:, 6:, 6:] = 1, 2
    return labels


def save(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = None) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return image


def inspect(
    folder: Path,
    *images: NDArray[Any],
    label: NDArray[Any] | None = None,
    scheme: LabelScheme | None = SCHEME,
) -> Inspection:
    for index, image in enumerate(images):
        save(folder / f"a_{index:04d}.nii.gz", image)
    save(folder / "a.nii.gz", blocks() if label is None else label)
    channels = tuple(ChannelSource(folder / f"a_{i:04d}.nii.gz") for i in range(len(images)))
    return inspect_case(Case("a", channels, folder / "a.nii.gz", "a"), scheme)


def kinds(inspection: Inspection) -> list[str]:
    return [problem.kind for problem in inspection.problems]


def test_a_sound_case_is_counted_and_measured(tmp_path: Path) -> None:
    image, labels = noise(), blocks()
    labels[0, 0, 0] = 3
    found = inspect(tmp_path, image, label=labels)
    assert found.problems == ()
    assert found.stats is not None and found.samples is not None
    assert found.stats.label_voxels == {0: 720 - 27 - 24 - 1, 1: 27, 2: 24, 3: 1}
    assert found.stats.intensity is not None and found.stats.intensity_with_ignore is not None
    annotated = image[(labels > 0) & (labels < 3)]
    assert found.stats.intensity[0].mean == pytest.approx(annotated.mean(), rel=1e-6)
    assert found.stats.intensity_with_ignore[0].mean == pytest.approx(image[labels > 0].mean())
    assert found.samples.component_mm3.tolist() == [27 * 6, 24 * 6]
    assert found.samples.class_sketch.shape == (3, 1, 50)


def with_value(array: NDArray[Any], value: float) -> NDArray[Any]:
    changed = array.copy()
    changed[0, 0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("image", "label", "expected"),
    [
        (with_value(noise(), np.nan), None, ["not_finite"]),
        (noise(), blocks() + np.float32(0.5), ["fractional_label"]),
        (noise(), with_value(blocks(), 9), ["undeclared_label"]),
        (noise(), blocks() * 0, ["empty_label"]),
        (noise(), blocks() * 0 + 3, ["empty_label"]),
        (noise() * 0 + 7, None, ["constant_image"]),
        (noise(), blocks()[1:], ["grid_mismatch"]),
        (np.stack([noise(), noise()], axis=-1), None, ["channel_count"]),
        (with_value(noise(), np.inf), with_value(blocks().astype("f4"), 0.5),
         ["not_finite", "fractional_label"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, image: NDArray[Any], label: NDArray[Any] | None, expected: list[str]
) -> None:
    found = inspect(tmp_path, image, label=label)
    assert kinds(found) == expected
    assert (found.stats is None) == any(p.severity == "error" for p in found.problems)


def test_channels_elsewhere_are_described(tmp_path: Path) -> None:
    found = inspect(tmp_path, noise(), noise()[:, :, ::2])
    assert kinds(found) == ["grid_mismatch"]
    assert "5x9x8 against 10x9x8 voxels" in found.problems[0].what
    assert "0.1 mm" in found.problems[0].what


def test_damaged_files_of_a_case_are_all_named(tmp_path: Path) -> None:
    inspect(tmp_path, noise(), noise())
    for name in ("a_0000.nii.gz", "a.nii.gz"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    channels = tuple(ChannelSource(tmp_path / f"a_{i:04d}.nii.gz") for i in range(2))
    found = inspect_case(Case("a", channels, tmp_path / "a.nii.gz", "a"), SCHEME)
    assert kinds(found) == ["unreadable", "unreadable"]


def test_units_transforms_and_spacings_that_look_wrong_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "a_0000.nii.gz"
    image = save(path, noise(), np.diag([40.0, 30.0, 50.0, 1.0]))
    image.header.set_xyzt_units("micron")
    turned = image.affine + 0
    turned[0, 3] = 5000.0
    image.set_qform(turned, 1)
    image.set_sform(image.affine, 1)
    nib.save(image, path)
    found = inspect_case(Case("a", (ChannelSource(path),), None, "a"), None)
    assert kinds(found) == ["unit", "transforms_disagree"]
    save(path, noise(), np.diag([1000.0, 1000.0, 1000.0, 1.0]))
    found = inspect_case(Case("a", (ChannelSource(path),), None, "a"), None)
    assert kinds(found) == ["extreme_spacing"]


def test_undeclared_labels_are_found_but_not_a_hundred_objects(tmp_path: Path) -> None:
    found = inspect(tmp_path, noise(), label=blocks() * 5, scheme=None)
    assert found.stats is not None
    assert found.stats.label_voxels == {0: 669, 5: 27, 10: 24}
    numbered = np.arange(720, dtype=np.int16).reshape(SHAPE)
    assert "instances/" in inspect(tmp_path, noise(), label=numbered, scheme=None).problems[0].fix
    negative = inspect(tmp_path, noise(), label=blocks().astype("i2") - 1, scheme=None)
    assert kinds(negative) == ["undeclared_label"]


def test_only_changed_cases_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "data", 3, shape_vox=(20, 20, 10))
    dataset = open_dataset(tmp_path / "data")
    cache = tmp_path / "cache"
    first = inspect_cases(dataset, dataset.cases, cache, workers=1)
    read: list[str] = []

    def counted(case: Case, scheme: LabelScheme | None) -> Inspection:
        read.append(case.case_id)
        return inspect_case(case, scheme)

    monkeypatch.setattr(autoseg.inspection.cached, "inspect_case", counted)
    again = inspect_cases(dataset, dataset.cases, cache, workers=1)
    assert read == []
    for case_id, inspection in again.items():
        assert inspection.stats == first[case_id].stats
        assert inspection.samples is not None and first[case_id].samples is not None
        for name in ("sketch", "class_sketch", "component_mm3"):
            expected = getattr(first[case_id].samples, name)
            np.testing.assert_array_equal(getattr(inspection.samples, name), expected)
    next(cache.iterdir()).write_bytes(b"junk")
    inspect_cases(dataset, dataset.cases, cache, workers=1)
    assert len(read) == 1  # what is damaged is made again
    read.clear()
    label = tmp_path / "data" / "labelsTr" / "case_001.nii.gz"
    image = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), label)
    inspect_cases(dataset, dataset.cases, cache, workers=1)
    assert read == ["case_001"]


@pytest.mark.parametrize(
    ("changed", "small", "processes"), [(0, True, 1), (1, True, 2), (0, False, 2)]
)
def test_small_cases_that_were_all_seen_before_start_no_processes(
    changed: int, small: bool, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", 3, shape_vox=(20, 20, 10))
    dataset, cache = open_dataset(tmp_path / "data"), tmp_path / "cache"
    inspect_cases(dataset, dataset.cases, cache, workers=1)
    for entry in list(cache.iterdir())[:changed]:
        entry.unlink()
    started: list[int] = []

    def map_cases(function: Any, tasks: Any, workers: int, *rest: Any) -> dict[str, Inspection]:
        started.append(workers)
        return {}

    monkeypatch.setattr(autoseg.inspection.cached, "map_cases", map_cases)
    if not small:
        monkeypatch.setattr(autoseg.inspection.cached, "SMALL_DATASET_BYTES", 1000)
    inspect_cases(dataset, dataset.cases, cache, workers=2)
    assert started == [processes]
