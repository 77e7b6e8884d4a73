"""What scores of objects are worth, from maps of objects as trainings write them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest

from autoseg.cli.selection_screen import selection_screen
from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.patients import Interval
from autoseg.evaluation.selection import ScoredCandidate
from autoseg.evaluation.selection_record import Postprocessing, Selection
from autoseg.pipeline.held_out import HeldOut
from autoseg.pipeline.object_sureness import sureness_of_objects
from autoseg.work_folder import WorkFolder

LABELS = LabelScheme(values=(0, 3), names=("background", "cell"), things=("cell",))


def squares(count: int) -> np.ndarray:
    """Numbered squares of 4 voxels a side in a row, in a single slice [x, y, z]."""
    numbers = np.zeros((8 * count, 8, 1), np.uint8)
    for index in range(count):
        numbers[8 * index + 2 : 8 * index + 6, 2:6] = index + 1
    return numbers


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def predicted(work: WorkFolder, fold: int, name: str, rng: np.random.Generator) -> Case:
    """Ten squares of which some are not there, whose scores are low."""
    numbers, is_there = squares(10), rng.uniform(size=10) < 0.6
    scores = np.where(is_there, 0.7, 0.3) + rng.uniform(-0.25, 0.25, 10)
    truth = np.where(np.isin(numbers, 1 + np.flatnonzero(is_there)), 3, 0).astype(np.uint8)
    write(work.root / "data" / f"{name}.nii.gz", truth)
    folder = work.fold("plan", "2d", fold).validation
    write(folder / f"{name}.nii.gz", np.where(numbers > 0, 3, 0).astype(np.uint8))
    write(folder / "instances" / f"{name}.nii.gz", numbers)
    told = [{"number": i + 1, "value": 3, "score": s} for i, s in enumerate(scores.tolist())]
    (folder / "instances" / f"{name}.json").write_text(json.dumps(told))
    with (folder / "provenance.jsonl").open("a") as file:
        file.write(json.dumps({"case_id": name, "models": [f"hash of {fold}"]}) + "\n")
    return Case(
        case_id=name, patient_id=name, channels=(), label=work.root / "data" / f"{name}.nii.gz"
    )


@pytest.fixture
def held_out(tmp_path: Path) -> HeldOut:
    work, rng = WorkFolder(tmp_path), np.random.default_rng(0)
    cases = {
        fold: tuple(predicted(work, fold, f"{fold}{index}", rng) for index in range(6))
        for fold in (0, 1)
    }
    member = SimpleNamespace(
        plan="plan",
        configuration=SimpleNamespace(name="2d"),
        hashes=lambda fold: (f"hash of {fold}",),
    )
    found: Any = SimpleNamespace(members=(member,))
    return HeldOut(work, found, ((0,),), cases)


def test_scores_become_the_share_of_objects_that_are_there(held_out: HeldOut) -> None:
    found, notes = sureness_of_objects(held_out, (0,), LABELS, 1)
    assert found is not None and found.parts == 2 and not notes
    (line,) = found.classes
    assert (line.value, line.name, line.objects) == (3, "cell", 120)
    assert line.right_share == pytest.approx(0.6, abs=0.1)
    sure, unsure = (cast(float, found.probability(3, score)) for score in (0.9, 0.1))
    assert sure > 0.9 and unsure < 0.1


def test_of_a_single_fold_patients_are_left_out_in_turn(held_out: HeldOut) -> None:
    cases = [replace(c, patient_id=c.case_id[:2][::-1]) for c in held_out.cases[0]]
    of_three = [replace(c, patient_id=str(i % 3)) for i, c in enumerate(cases)]
    for own, parts in ((cases, 6), (of_three, 3)):
        found, _ = sureness_of_objects(replace(held_out, cases={0: tuple(own)}), (0,), LABELS, 1)
        assert found is not None and found.parts == parts
    alone = [replace(c, patient_id="one") for c in cases]  # nobody is left to learn from
    assert (
        sureness_of_objects(replace(held_out, cases={0: tuple(alone)}), (0,), LABELS, 1)[0] is None
    )


def test_nothing_is_said_without_objects_of_these_models_or_of_ensembles(held_out: HeldOut) -> None:
    assert sureness_of_objects(held_out, (0, 1), LABELS, 1)[0] is None
    no_things = LABELS.model_copy(update={"things": ()})
    assert sureness_of_objects(held_out, (0,), no_things, 1) == (None, ())
    folder = held_out.work.fold("plan", "2d", 0).validation
    with (folder / "provenance.jsonl").open("a") as file:
        file.write(json.dumps({"case_id": "00", "models": ["of another training"]}) + "\n")
    found, notes = sureness_of_objects(held_out, (0,), LABELS, 1)
    assert found is None and "--resume" in notes[0]


def test_what_was_learned_is_shown_and_followed(held_out: HeldOut) -> None:
    found, _ = sureness_of_objects(held_out, (0,), LABELS, 1)
    assert found is not None
    (line,) = found.classes
    none = Interval(low=0, high=0)
    candidate = ScoredCandidate(
        members=("plan/2d",), score=0.5, standard_error=0.1, interval=none, classes={}, gap=0,
        gap_interval=none, seconds=0.1,
    )  # fmt: skip
    selection = Selection(
        rules="autoseg", metric="dice", folds=(0, 1), cases=12, patients=12, members=(),
        candidates=(candidate,), because="it is alone", sureness=found,
        postprocessing=Postprocessing(
            before=0.5, after=0.5, gain=0, gain_interval=none, because="none"
        ),
    )  # fmt: skip
    assert selection.recipe.sureness == found
    shown = selection_screen(selection, Path("autoseg_work"))
    assert f"{line.right_share:.0%} of 120 held-out ones" in shown
