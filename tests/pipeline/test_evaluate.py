"""What is scored: folders side by side, or what the folds of a work folder held out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import autoseg
from autoseg.cli import main
from autoseg.errors import AutosegError
from autoseg.evaluation.comparison import SideBySide
from autoseg.evaluation.evaluation import Evaluation
from autoseg.pipeline.evaluate import EvaluateJob, evaluate_masks
from autoseg.work_folder import WorkFolder
from tests.evaluation.test_evaluate import save
from tests.pipeline.tiny import plan_quickly, write_rules

LABELS = {"background": 0, "liver": 1, "tumour": 2}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two predictions in folders of one name, and the references."""
    rng = np.random.default_rng(0)
    places = tmp_path / "a" / "masks", tmp_path / "b" / "masks", tmp_path / "truth"
    for place in places:
        place.mkdir(parents=True)
        for case in "xyz":
            save(place / f"{case}.nii.gz", rng.integers(0, 3, (5, 6, 7)))
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": LABELS, "tolerances_mm": {"liver": 5, "tumour": 1}})
    )
    return places


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Path) -> WorkFolder:
    """A plan whose folds 0 and 2 have masks, as if they were trained: the references themselves."""
    folder = tmp_path_factory.mktemp("trained")
    work = WorkFolder(folder / "work")
    plan = plan_quickly(synthetic_dataset, work, write_rules(folder / "rules"))
    for number in (0, 2):
        held_out = work.splits().folds[number].validation
        fold = work.fold(plan.name, plan.recommended, number)
        fold.validation.mkdir(parents=True)
        for case in held_out:
            shutil.copy(synthetic_dataset / "labelsTr" / f"{case}.nii.gz", fold.mask(case))
        fold.summary.write_text("{}")
    return work


def test_several_predictions_are_named_by_what_tells_them_apart(
    folders: tuple[Path, Path, Path],
) -> None:
    first, second, truth = folders
    found = evaluate_masks(EvaluateJob(predictions=(first, second), references=truth), 1)
    assert list(found.evaluations) == ["a", "b"]
    alone = evaluate_masks(EvaluateJob(predictions=(second,), references=truth), 1)
    assert alone.evaluations == {"masks": found.evaluations["b"]}
    assert alone.comparisons == ()
    with pytest.raises(AutosegError, match="given twice"):
        evaluate_masks(EvaluateJob(predictions=(first, first), references=truth), 1)


def test_tolerances_are_those_of_the_dataset_unless_others_are_given(
    folders: tuple[Path, Path, Path],
) -> None:
    first, _, truth = folders
    found = autoseg.evaluate(first, truth, workers=1, tolerance_mm=3, tolerances_mm={"2": 4})
    assert found.convention is not None
    assert found.convention.tolerances_mm == {"1": 5, "2": 4}
    assert found.convention.tolerance_mm == 3


def test_metrics_may_be_few_and_pixel_accuracy_is_of_all_classes(
    folders: tuple[Path, Path, Path],
) -> None:
    first, _, truth = folders
    job = EvaluateJob(predictions=(first,), references=truth, metrics=("pixel_accuracy",))
    found = evaluate_masks(job, 1).evaluations["masks"]
    right = [
        np.mean(autoseg.read_labels(first / name).array == autoseg.read_labels(truth / name).array)
        for name in ("x.nii.gz", "y.nii.gz", "z.nii.gz")
    ]
    assert found.mean == {"pixel_accuracy": pytest.approx(np.mean(right))}
    assert found.cases["x"]["1"].keys() == {"pixel_accuracy"}


def test_without_folders_the_finished_folds_are_pooled(trained: WorkFolder) -> None:
    found = evaluate_masks(EvaluateJob(work=trained.root), workers=1)
    ((name, evaluation),) = found.evaluations.items()
    held_out = [case for n in (0, 2) for case in trained.splits().folds[n].validation]
    assert name == trained.plan(None).recommended
    assert sorted(evaluation.cases) == sorted(held_out)
    assert evaluation.mean["dice"] == 1
    assert evaluation.names
    assert f"{name}: held-out cases of fold 0, 2, of 5 folds" in evaluation.notes


def test_without_trained_folds_the_way_out_is_named(trained: WorkFolder, tmp_path: Path) -> None:
    plan = trained.plan(None)
    with pytest.raises(AutosegError, match="has no configuration 'none'"):
        evaluate_masks(EvaluateJob(work=trained.root, configurations=("none",)), 1)
    others = tuple(name for name in plan.configurations if name != plan.recommended)
    if others:
        with pytest.raises(AutosegError, match=r"no fold is trained .* Run `autoseg train` first"):
            evaluate_masks(EvaluateJob(work=trained.root, configurations=others), 1)


def test_the_command_writes_json_of_all_and_a_table(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "scores.csv"
    words = [*map(str, folders), "--workers", "1", "--metrics", "dice", "--tolerance", "3", "2=4"]
    assert main(["evaluate", *words, "--json", "--csv", str(table)]) == 0
    found = SideBySide.model_validate_json(capsys.readouterr().out)
    assert found.comparisons[0].classes["1"]["dice"].cases == 3
    assert len(table.read_text().splitlines()) == 1 + 2 * 3 * 2
    assert main(["evaluate", str(folders[0]), "--json", str(folders[2]), "--workers", "1"]) == 0
    one = Evaluation.model_validate_json(capsys.readouterr().out)
    assert one.cases["x"]["1"]["dice"] == found.evaluations["a"].cases["x"]["1"]["dice"]
    assert main(["evaluate", *map(str, folders), "--workers", "1"]) == 0
    assert "b less a, in 3 cases of both:" in capsys.readouterr().out


def test_masks_alone_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="masks of what"):
        evaluate_masks(EvaluateJob(predictions=(tmp_path,)), 1)
