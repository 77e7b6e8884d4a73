"""Counts of what steps change, beside scores of the masks that they make.

Covers: step_candidates.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.evaluation.corrections import CorrectedCase, correct_case
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.step_candidates import CaseParts, look_at_case, steps_to_try, value_around
from autoseg.images.volume import read_labels, write_labels
from autoseg.postprocessing.steps import Confidence, Holes, SmallComponents, apply_steps

CLASSES = LabelScheme(values=(0, 2, 5), names=("background", "organ", "lesion"), ignore=9)
REGIONS = LabelScheme(
    values=(0, 1, 2, 3),
    names=("background", "x", "y", "z"),
    regions=(
        Region(name="whole", values=(1, 2, 3)),
        Region(name="inner", values=(2, 3)),
        Region(name="core", values=(3,)),
    ),
    region_order=(1, 2, 3),
)
SPACING_MM = (2.0, 1.0, 0.5)


def blobs(seed: int, values: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(values), 14, 13, 8))
    smooth = ndimage.gaussian_filter(noise, (0, 1, 1, 1))
    found: np.ndarray = np.asarray(values, np.uint8)[smooth.argmax(0)]
    return found


def write(path: Path, labels: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(labels, np.diag([0.5, 1, 2, 1])), path)
    return path


def case_of(folder: Path, labels: LabelScheme, seed: int = 0) -> CorrectedCase:
    truth = blobs(seed, labels.values)
    mask = np.where(np.random.default_rng(seed).random(truth.shape) < 0.2, 0, truth)
    mask[blobs(seed + 1, (0, 0, 0, 1)) == 1] = labels.values[-1]
    if labels.ignore is not None:
        truth[:3] = labels.ignore
    names = [r.name for r in labels.regions] or labels.names[1:]
    confidences = {n: Confidence(largest_probability=0.7, mean_probability=0.4) for n in names}
    return CorrectedCase(
        write(folder / f"mask_{seed}.nii.gz", mask.astype(np.uint8)),
        write(folder / f"truth_{seed}.nii.gz", truth),
        labels,
        confidences,
    )


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_scores_after_each_step_are_those_of_the_mask_that_it_makes(
    tmp_path: Path, labels: LabelScheme, metric: str
) -> None:
    case = case_of(tmp_path, labels)
    groups = steps_to_try(labels, [look_at_case(case)], [case.confidences])
    tried = tuple(step for group in groups for step in group)
    taken = (groups[1][0], next(s for s in tried if isinstance(s, Holes)))
    asked = CorrectedCase(case.mask, case.reference, labels, case.confidences, metric, taken, tried)
    scores = correct_case(asked)
    assert len({tuple(row) for row in scores}) > 4
    mask = read_labels(case.mask)
    for found, steps in zip(scores, [taken, *((*taken, step) for step in tried)], strict=True):
        made, _ = apply_steps(mask.array, SPACING_MM, steps, case.confidences)
        path = tmp_path / "made.nii.gz"
        write_labels(path, type(mask)(made, mask.grid, mask.nifti_header))
        expected = evaluate_pairs({"a": (path, case.reference)}, labels, 1).cases["a"]
        by_name = [np.nan if s[metric] is None else s[metric] for s in expected.values()]
        np.testing.assert_allclose(found, np.array(by_name, float), atol=1e-12)


def test_less_is_better_where_a_metric_says_so(tmp_path: Path) -> None:
    case = case_of(tmp_path, CLASSES)
    asked = CorrectedCase(case.mask, case.reference, CLASSES, metric="volume_difference_ml")
    scores = correct_case(asked)[0]
    assert (scores < 0).all()


def test_sizes_are_swept_over_components_that_are_not_the_largest(tmp_path: Path) -> None:
    mask = np.zeros((20, 5, 4), np.uint8)  # [x, y, z]; a voxel has 1 mm³
    for start, length in ((0, 1), (3, 2), (7, 3), (12, 6)):
        mask[start : start + length, 0, 0] = 2
    case = CorrectedCase(
        write(tmp_path / "m.nii.gz", mask), write(tmp_path / "t.nii.gz", mask), CLASSES
    )
    parts = look_at_case(case)
    assert parts.spare_mm3["organ"].tolist() == [1, 2, 3]
    assert parts.seen == {"organ": True, "lesion": False}
    none = {n: Confidence(largest_probability=0, mean_probability=None) for n in parts.seen}
    steps = [s for group in steps_to_try(CLASSES, [parts], [none]) for s in group]
    sizes = [s.min_volume_mm3 for s in steps if isinstance(s, SmallComponents)]
    assert sizes == [2.1, 3.1]


@pytest.mark.parametrize("voxel_mm3", [0.01, 0.29, 1.2, 0.75])
def test_sizes_that_are_swept_are_above_those_of_components(voxel_mm3: float) -> None:
    """1.2 mm³ is a size of two digits: as the least one it would remove nothing of that size."""
    none = {n: Confidence(largest_probability=0, mean_probability=None) for n in CLASSES.names[1:]}
    for voxels in range(1, 100):
        spare = {"organ": np.array([voxels * voxel_mm3]), "lesion": np.array([])}
        parts = CaseParts(spare, {"organ": True, "lesion": True})
        steps = [s for group in steps_to_try(CLASSES, [parts], [none]) for s in group]
        (found,) = [s for s in steps if isinstance(s, SmallComponents)]
        assert voxels * voxel_mm3 < found.min_volume_mm3 <= 1.1001 * voxels * voxel_mm3


def test_a_voxel_out_of_a_region_becomes_part_of_the_smallest_around_it() -> None:
    assert [value_around(REGIONS, index) for index in range(3)] == [0, 1, 2]
    assert value_around(CLASSES, 0) == 0
