"""Covers: saved_probabilities, scored_case."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme, Region
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.saved_probabilities import find_probabilities
from autoseg.evaluation.scored_case import numbers_objects
from tests.evaluation.test_evaluate import save

LABELS = LabelScheme(values=(0, 1, 5), names=("background", "organ", "lesion"))


def write(path: Path, probabilities: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, probabilities=probabilities)


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    """Two lesions, one of which is there; what is predicted [x, y, z] has shape 6, 5, 4."""
    mask, truth = np.zeros((2, 6, 5, 4))
    mask[:2, :2, :2] = mask[4:, 3:, 2:] = 5
    truth[:2, :2, :2] = 5
    save(tmp_path / "masks" / "a.nii.gz", mask)
    save(tmp_path / "truth" / "a.nii.gz", truth)
    return tmp_path / "masks" / "a.nii.gz", tmp_path / "truth" / "a.nii.gz"


def test_maps_are_found_by_class_in_any_order(tmp_path: Path) -> None:
    saved = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float16)
    write(tmp_path / "probabilities" / "a.npz", saved)
    found = find_probabilities(tmp_path / "a.nii.gz", (4, 5, 6), LABELS)
    assert found is not None and found.of("7") is None
    for name, output in (("5", 2), ("1", 1), ("1", 1), ("5", 2)):
        probability = found.of(name)
        assert probability is not None and (probability == saved[output]).all()


def test_regions_have_a_map_each(tmp_path: Path) -> None:
    regions = (Region(name="whole", values=(1, 5)), Region(name="core", values=(5,)))
    labels = LABELS.model_copy(update={"regions": regions, "region_order": (1, 5)})
    saved = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    write(tmp_path / "probabilities" / "a.npz", saved)
    found = find_probabilities(tmp_path / "a.nii.gz", (4, 5, 6), labels)
    assert found is not None and (found.of("whole") == saved[0]).all()


def test_probabilities_of_another_mask_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "probabilities" / "a.npz", np.zeros((3, 4, 5, 5), np.float16))
    with pytest.raises(AutosegError, match=r"a\.npz: holds \(3, 4, 5, 5\), not \(3, 4, 5, 6\)"):
        find_probabilities(tmp_path / "a.nii.gz", (4, 5, 6), LABELS)
    (tmp_path / "probabilities" / "a.npz").write_bytes(b"no archive")
    with pytest.raises(AutosegError, match="no probabilities that can be read"):
        find_probabilities(tmp_path / "a.nii.gz", (4, 5, 6), LABELS)


def test_probabilities_beside_masks_rank_objects(case: tuple[Path, Path]) -> None:
    without = evaluate_pairs({"a": case}, LABELS, workers=1)
    assert without.classes["5"]["ap50"] == pytest.approx(0.5) and without.froc == {}
    assert without.classes["5"]["ece"] is None
    mask = np.asarray(nib.load(case[0]).dataobj).T
    probability = np.zeros((3, 4, 5, 6), np.float16)
    probability[2] = np.where(mask == 5, 0.6, 0)
    probability[2, :2, :2, :2] = 0.9
    probability[0] = 1 - probability[2]
    write(case[0].parent / "probabilities" / "a.npz", probability)
    ranked = evaluate_pairs({"a": case}, LABELS, workers=1)
    assert ranked.classes["5"]["ap50"] == 1
    assert ranked.froc["5"].sensitivities == (1,) * 7
    brier = (8 * 0.1**2 + 8 * 0.6**2) / 120
    assert ranked.classes["5"]["brier"] == pytest.approx(brier, abs=1e-4)
    assert "froc" in json.loads(ranked.model_dump_json())


def test_masks_that_number_objects_are_scored_by_their_numbers(tmp_path: Path) -> None:
    truth = np.zeros((9, 4, 1))
    truth[:3], truth[3:6], truth[6:] = 4, 9, 2  # three that touch
    joined = np.where(truth == 9, 4, truth)
    for name, mask in (("a", truth), ("b", joined)):
        save(tmp_path / "masks" / f"{name}.nii.gz", mask)
        save(tmp_path / "truth" / f"{name}.nii.gz", truth)
    pairs = {
        name: (tmp_path / "masks" / f"{name}.nii.gz", tmp_path / "truth" / f"{name}.nii.gz")
        for name in "ab"
    }
    evaluation = evaluate_pairs(pairs, INSTANCE_SCHEME, workers=1)
    assert list(evaluation.classes) == ["1"]
    scores = evaluation.cases["a"]["1"], evaluation.cases["b"]["1"]
    assert [score["dice"] for score in scores] == [1, 1]
    assert [score["pq"] for score in scores] == [1, pytest.approx(1 / (1 + 3 / 2))]


def test_masks_of_object_and_border_are_scored_as_classes(tmp_path: Path) -> None:
    truth = np.zeros((9, 4, 1))
    truth[:4], truth[4:] = 1, 2
    mask = np.ones((9, 4, 1))
    mask[3:5] = 2  # the border, where objects touch
    save(tmp_path / "masks" / "a.nii.gz", mask)
    save(tmp_path / "truth" / "a.nii.gz", truth)
    pair = tmp_path / "masks" / "a.nii.gz", tmp_path / "truth" / "a.nii.gz"
    assert not numbers_objects([pair[0]])
    evaluation = evaluate_pairs({"a": pair}, INSTANCE_SCHEME, workers=1)
    assert [evaluation.classes[value]["dice"] for value in "12"] == [1, 1]
    assert evaluation.classes["1"]["pq"] == 1
