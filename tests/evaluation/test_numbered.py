"""Numbers of COCO were made once by pycocotools 2.0.11 of these very objects and scores.

Covers: numbered.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.numbered import numbers_of_reference, told_objects
from autoseg.evaluation.scoring import Scoring
from autoseg.images.coco import path_of_map
from tests.images.test_coco import SQUARE, annotation, written

SCHEME = LabelScheme(
    values=(0, 1, 2), names=("background", "cell", "dust"), things=("cell", "dust")
)
SCANS = ("a", "b", "c")
OF_COCO = {  # by class: AP at IoUs of 0.50 to 0.95, at 0.5, and at 0.1
    "1": (0.05001923075105888, 0.17094814777820783, 0.7819136065188391),
    "2": (0.07032389492467046, 0.2169276951704774, 0.7358402328244606),
}
OF_ALL = (0.055485372424834874, 0.18527781683524255, 0.7567734142131656)  # whatever the class


def discs(rng: np.random.Generator, shift: float) -> list[tuple[float, ...]]:
    """Centre and radius of discs that may touch, moved and partly left out, some made up."""
    y, x = (a.ravel() for a in np.mgrid[6:66:11, 6:86:11])
    placed = np.column_stack((y, x, np.full(len(y), 6.0))) + rng.normal(0, shift, (len(y), 3))
    return [tuple(row) for row in placed]


def numbered(places: list[tuple[float, ...]], kept: np.ndarray) -> np.ndarray:
    """A map [1, y, x] of the discs that are kept, from 1; later ones lie on top."""
    y, x = np.mgrid[:70, :90]
    numbers = np.zeros((70, 90), np.uint8)
    for number, ((cy, cx, r), keep) in enumerate(zip(places, kept, strict=True), 1):
        if keep:
            numbers[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = number
    return numbers[None]


def made(seed: int) -> tuple[np.ndarray, np.ndarray, dict[int, int], dict[int, float]]:
    """References, what was found, their common classes by number, and the scores of the latter."""
    rng = np.random.default_rng(seed)
    places = discs(rng, 0.7)
    moved = [tuple(np.add(place, rng.normal(0, 1.6, 3))) for place in places]
    truth = numbered(places, rng.random(len(places)) < 0.8)
    found = numbered(moved, rng.random(len(places)) < 0.85)
    values = {number: 1 + number % 2 for number in range(1, len(places) + 1)}
    order = rng.permutation(len(places))
    scores = {number: (int(order[number - 1]) + seed / 10) / 50 for number in values}
    return truth, found, values, scores


ONLY_DICE = Scoring(metrics=("dice",))


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.uint8).T, np.eye(4)), path)


def write_all(root: Path) -> None:
    """Scans as `predict` writes them to out/, and a dataset with `labels/` and `instances/`."""
    for seed, name in enumerate(SCANS):
        truth, found, values, scores = made(seed)
        table = np.array([0, *(values[number] for number in sorted(values))])
        save(root / f"labels/{name}.nii.gz", table[truth])
        save(root / f"instances/{name}.nii.gz", truth)
        save(root / f"out/{name}.nii.gz", table[found])
        save(root / f"out/instances/{name}.nii.gz", found)
        told = [
            {"number": n, "value": values[n], "score": scores[n]}
            for n in np.unique(found).tolist()
            if n
        ]
        (root / f"out/instances/{name}.json").write_text(json.dumps(told))


def scored(root: Path, masks: str) -> Evaluation:
    pairs = {n: (root / masks / f"{n}.nii.gz", root / f"labels/{n}.nii.gz") for n in SCANS}
    return evaluate_pairs(pairs, SCHEME, 1)


@pytest.mark.parametrize("masks", ["out", "out/instances"])
def test_average_precision_of_written_scores_is_that_of_pycocotools(
    tmp_path: Path, masks: str
) -> None:
    write_all(tmp_path)
    found = scored(tmp_path, masks)
    for name, expected in OF_COCO.items():
        ours = [found.classes[name][metric] for metric in ("map", "ap50", "ap10")]
        assert ours == pytest.approx(expected, abs=1e-12)
    assert found.froc.keys() == {"1", "2"}


def test_without_scores_objects_are_known_but_not_ranked(tmp_path: Path) -> None:
    write_all(tmp_path)
    with_scores = scored(tmp_path, "out")
    for path in (tmp_path / "out/instances").glob("*.json"):
        told = [one | {"score": None} for one in json.loads(path.read_text())]
        path.write_text(json.dumps(told))
    found = scored(tmp_path, "out")
    assert found.froc == {} and found.classes["1"]["pq"] == with_scores.classes["1"]["pq"]


def test_without_numbers_things_are_components(tmp_path: Path) -> None:
    write_all(tmp_path)
    numbered_ones = scored(tmp_path, "out").classes["1"]["pq"]
    for folder in ("instances", "out/instances"):
        for path in (tmp_path / folder).iterdir():
            path.unlink()
    assert scored(tmp_path, "out").classes["1"]["pq"] != numbered_ones


def test_references_number_objects_where_datasets_have_them(tmp_path: Path) -> None:
    write_all(tmp_path)
    label = tmp_path / "labels/a.nii.gz"
    assert numbers_of_reference(label) == tmp_path / "instances/a.nii.gz"
    label.with_name("a.json").write_text('{"instances": {"1": 0}}')
    assert numbers_of_reference(label) == label
    annotations = written(tmp_path, annotation(1, [SQUARE]))
    of_coco = path_of_map(annotations, 42, "classes")
    assert numbers_of_reference(of_coco) == path_of_map(annotations, 42, "objects")
    assert numbers_of_reference(tmp_path / "other/a.nii.gz") is None


def test_what_is_told_of_objects_must_be_what_predict_writes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"number": 1}]')
    with pytest.raises(AutosegError, match="must be a list of objects, each with a number"):
        told_objects(tmp_path / "a.nii.gz")


def test_numbered_objects_of_one_class_are_ranked_by_their_scores(tmp_path: Path) -> None:
    write_all(tmp_path)
    places = [tmp_path / "out/instances", tmp_path / "instances"]
    pairs = {n: (places[0] / f"{n}.nii.gz", places[1] / f"{n}.nii.gz") for n in SCANS}
    found = evaluate_pairs(pairs, INSTANCE_SCHEME, 1).classes["1"]
    assert [found[name] for name in ("map", "ap50", "ap10")] == pytest.approx(OF_ALL, abs=1e-12)


def with_border(root: Path) -> dict[str, tuple[Path, Path]]:
    """Masks of object and border, of which even whole objects may be, with numbers beside them."""
    write_all(root)
    pairs = {n: (root / f"out/{n}.nii.gz", root / f"instances/{n}.nii.gz") for n in SCANS}
    for name, (mask, _) in pairs.items():
        numbers = np.asarray(nib.load(root / f"out/instances/{name}.nii.gz").dataobj).T
        save(mask, np.where(numbers % 2, 1, 2) * (numbers > 0))
    return pairs


def test_numbers_beside_masks_with_a_border_are_of_whole_objects(tmp_path: Path) -> None:
    found = evaluate_pairs(with_border(tmp_path), INSTANCE_SCHEME, 1)
    assert found.classes.keys() == {"1", "2"} and found.froc.keys() == {"1"}
    ours = [found.classes["1"][name] for name in ("map", "ap50", "ap10")]
    assert ours == pytest.approx(OF_ALL, abs=1e-12)
    overlaps = evaluate_pairs(with_border(tmp_path), INSTANCE_SCHEME, 1, scoring=ONLY_DICE)
    assert overlaps.classes["1"]["dice"] == found.classes["1"]["dice"]


def test_where_one_mask_has_no_numbers_beside_it_none_are_used(tmp_path: Path) -> None:
    pairs = with_border(tmp_path)
    next((tmp_path / "out/instances").glob("*.json")).unlink()
    some = evaluate_pairs(pairs, INSTANCE_SCHEME, 1)
    for path in (tmp_path / "out/instances").iterdir():
        path.unlink()
    assert evaluate_pairs(pairs, INSTANCE_SCHEME, 1).classes == some.classes
