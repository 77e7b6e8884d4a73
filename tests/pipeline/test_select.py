"""`autoseg select` on models of random weights, and what predicts afterwards.

Covers: candidates, held_out, postprocess, selected, pack, inference.subsets, cli.selection_screen.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg.checkpoint import (
    read_card,
    read_sources,
    read_tensors,
    save_tensors,
)
from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.evaluation.calibration import BINS
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.scoring import Scoring
from autoseg.images.volume import read_image, read_labels
from autoseg.inference.maps import RequestedMaps
from autoseg.inference.predictor import Predictor
from autoseg.inference.subsets import segment_subsets
from autoseg.pipeline.candidates import find_candidates
from autoseg.pipeline.held_out import HeldOutCase
from autoseg.pipeline.pack import pack_models
from autoseg.pipeline.postprocess import postprocessing_as_nnunet
from autoseg.pipeline.select import SelectJob, select
from autoseg.pipeline.selected import models_to_use, trained_models
from autoseg.planning.model_plan import DistancePlan
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import load_record
from autoseg.work_folder import WorkFolder
from tests.pipeline.random_models import (
    CONFIGURATIONS,
    folder_of,
    paths_of,
    scan_of,
    selection_of,
    with_everything,
    write_fold,
)
from tests.pipeline.tiny import plan_quickly, write_rules


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkFolder]:
    """Two folds of three configurations, one a cascade, and a third fold of one; all selected."""
    folder = tmp_path_factory.mktemp("select")
    write_dataset(folder / "data", 3, shape_vox=(56, 56, 40))
    work = WorkFolder(folder / "work")
    plan_quickly(folder / "data", work, write_rules(folder / "tiny"))
    for configuration in CONFIGURATIONS:
        for fold in (0, 1):
            write_fold(work, configuration, fold)
    write_fold(work, "2d", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoseg.inference.ways.is_installed", lambda: False)
        select(SelectJob(work=work.root), 1)
        yield work


@pytest.fixture
def work(made: WorkFolder, tmp_path: Path) -> WorkFolder:
    """A copy that a test may change."""
    shutil.copytree(made.root.parent, tmp_path / "copy")
    return WorkFolder(tmp_path / "copy" / "work")


def test_every_ensemble_is_compared_on_the_folds_that_all_have(made: WorkFolder) -> None:
    selection = selection_of(made)
    assert [len(candidate.members) for candidate in selection.candidates] == [1, 1, 1, 2, 2, 2, 3]
    assert selection.folds == (0, 1)
    assert selection.cases == sum(len(f.validation) for f in made.splits().folds[:2])
    plan = made.plan(None).name
    assert f"Fold 2 of {plan}/3d_lowres is not trained, and left out for all." in selection.notes
    assert not any(f"{plan}/2d is" in note for note in selection.notes)


def test_scores_are_those_of_evaluating_the_masks(made: WorkFolder) -> None:
    selection, labels = selection_of(made), made.plan(None).labels
    cases = [case for fold in made.splits().folds[:2] for case in fold.validation]
    references = made.root.parent / "data" / "labelsTr"
    for candidate in selection.candidates:
        pairs = {
            case: (
                made.held_out_mask(folder_of(candidate.members), case),
                references / f"{case}.nii.gz",
            )
            for case in cases
        }
        expected = evaluate_pairs(pairs, labels, 1, scoring=Scoring(metrics=("dice",)))
        assert candidate.score == pytest.approx(expected.mean["dice"], abs=1e-12)
        by_class = [scores["dice"] for scores in expected.classes.values()]
        assert list(candidate.classes.values()) == pytest.approx(by_class, abs=1e-12)


@pytest.mark.parametrize("index", range(7))
def test_masks_are_those_that_predict_writes_with_the_models_of_the_fold(
    made: WorkFolder, tmp_path: Path, index: int
) -> None:
    members = selection_of(made).candidates[index].members
    models = paths_of(made, members, 0)
    if any(m.endswith("lowres") for m in members) and len(models) == len(members) > 1:
        predictor = Predictor.load(models, recipe=Recipe(members=members))
    else:
        predictor = Predictor.load(models)
    case = made.splits().folds[0].validation[0]
    expected = predictor(read_image(scan_of(made, case))).labels.array
    found = read_labels(made.held_out_mask(folder_of(members), case)).array
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1


def test_confidences_and_seconds_of_each_are_kept(made: WorkFolder) -> None:
    models = paths_of(made, (f"{made.plan(None).name}/2d",), 0)
    predictor = Predictor.load(models)
    scan = read_image(scan_of(made, made.splits().folds[0].validation[0]))
    found = segment_subsets(predictor, predictor.prepare(scan, "a"), [(0,)])
    labels, mask = made.plan(None).labels, found.masks[(0,)]
    assert list(mask.confidences) == list(labels.names[1:])
    for value, confidence in zip(labels.values[1:], mask.confidences.values(), strict=True):
        assert (confidence.mean_probability is not None) == (value in mask.labels.array)
        assert 0 < confidence.largest_probability <= 1
    assert found.seconds[0] > 0
    assert all(candidate.seconds > 0 for candidate in selection_of(made).candidates)


def test_reliability_is_counted_against_references_on_the_scans_grid(made: WorkFolder) -> None:
    """The counts of a fold with a single case are those of its saved probabilities."""
    selection = selection_of(made)
    assert [one.name for one in selection.reliability] == list(made.plan(None).labels.names[1:])
    case = made.splits().folds[0].validation[0]
    name = f"{made.plan(None).name}/2d"
    record = load_record(HeldOutCase, made.held_out_record(case))
    predictor = Predictor.load(paths_of(made, (name,), 0))
    path = made.root.parent / "probabilities.npz"
    predictor(read_image(scan_of(made, case)), requested=RequestedMaps(probability_file=path))
    probabilities = np.load(path)["probabilities"].astype(np.float32)
    truth = read_labels(made.root.parent / "data" / "labelsTr" / f"{case}.nii.gz").array
    for index, found in enumerate(record.reliability[name.replace("/", ".")], 1):
        p, there = probabilities[index], truth == index
        above = p >= 1 / BINS
        counts = np.histogram(p[above], BINS, (0, 1))[0]
        # Probabilities were rounded to 16 bits, so some voxels are in the next bin.
        np.testing.assert_allclose(found.voxels[1:], counts[1:], atol=2 + 0.01 * counts.sum())
        assert sum(found.with_class) == there.sum()
        seen = np.histogram(p[above & there], BINS, (0, 1))[0]
        np.testing.assert_allclose(found.with_class[1:], seen[1:], atol=2 + 0.01 * seen.sum())


def test_cases_of_earlier_versions_leave_reliability_unknown(work: WorkFolder) -> None:
    path = work.held_out_record(work.splits().folds[0].validation[0])
    older = json.loads(path.read_text())
    del older["reliability"]
    path.write_text(json.dumps(older))
    before = selection_of(work)
    assert before.reliability and select(SelectJob(work=work.root), 1).reliability == ()


def test_what_is_done_is_not_predicted_again(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = selection_of(work)
    loaded: list[Any] = []
    load = Predictor.load

    def noting(*arguments: Any, **named: Any) -> Predictor:
        loaded.append(arguments)
        return load(*arguments, **named)

    monkeypatch.setattr(Predictor, "load", noting)
    assert select(SelectJob(work=work.root), 1) == before
    select(SelectJob(work=work.root, configurations=("2d", "3d_lowres")), 1)
    assert loaded == []
    write_fold(work, "2d", 1, seed=1)
    again = select(SelectJob(work=work.root), 1)
    assert len(loaded) == len(CONFIGURATIONS)  # of the one fold
    assert again.candidates[0].score != before.candidates[0].score
    case = work.splits().folds[0].validation[0]
    work.held_out_record(case).unlink()
    select(SelectJob(work=work.root), 1)
    assert len(loaded) == 2 * len(CONFIGURATIONS)


def test_predict_follows_the_selection_and_says_so(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = scan_of(work, "case_000")
    assert main(["predict", str(scan), str(tmp_path / "out"), "--work", str(work.root)]) == 0
    selection = selection_of(work)
    said = capsys.readouterr()
    assert f"As selected: {selection.in_a_line()}." in said.err
    assert f"with {len(selection.models())} models" in said.out.replace("1 model.", "1 models.")
    provenance = json.loads((tmp_path / "out" / "provenance.jsonl").read_text())
    assert set(provenance["models"]) == {model.hash for model in selection.models()}
    steps = [step.what for step in selection.postprocessing.steps]
    assert set(provenance["postprocessing"]) <= set(steps)


def test_a_selection_of_other_models_is_told_and_not_followed(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, *_) = selection_of(work).members
    write_fold(work, first.configuration, 1, seed=3)
    scan = scan_of(work, "case_000")
    command = ["predict", str(scan), str(tmp_path / "out"), "--work", str(work.root)]
    main([*command])
    said = capsys.readouterr().err
    assert f"{work.selection} is not followed, since it is of other models" in said
    assert f"{first.configuration}/fold_1/model.safetensors was trained anew" in said
    with pytest.raises(AutosegError, match="is not followed"):
        pack_models(work.root, tmp_path / "pack.safetensors")
    named = models_to_use(work.root, None, "2d")
    assert named.recipe is None and named.told is None


def test_a_pack_predicts_as_the_selection_does(work: WorkFolder, tmp_path: Path) -> None:
    selection = with_everything(work)
    pack = tmp_path / "pack.safetensors"
    assert main(["export", "model", "--work", str(work.root), "--out", str(pack)]) == 0
    sources, recipe = read_sources(pack)
    assert len(sources) == 6 and recipe == selection.recipe
    alone = Predictor.load([pack])
    chosen = models_to_use(work.root)
    together = Predictor.load(chosen.models, recipe=chosen.recipe)
    assert [len(group.hashes) for group in alone.groups] == [2, 2, 2]
    scan = read_image(scan_of(work, "case_001"))
    found, expected = alone(scan), together(scan)
    np.testing.assert_array_equal(found.labels.array, expected.labels.array)
    assert found.provenance == expected.provenance
    assert "core dropped where its mean probability is under 0.999" in (
        found.provenance.postprocessing
    )
    plain = Predictor.load(chosen.models, recipe=chosen.recipe.model_copy(update={"steps": ()}))  # type: ignore[union-attr]
    assert 2 in plain(scan).labels.array and 2 not in found.labels.array


def test_a_pack_counts_for_the_models_that_it_holds(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack.safetensors"
    pack_models(work.root, pack, configuration="2d")
    scan, out = str(scan_of(work, "case_000")), str(tmp_path / "out")
    assert main(["predict", scan, out, "--model", str(pack)]) == 0
    assert "Wrote 1 mask" in (said := capsys.readouterr().out) and "with 3 models" in said


def test_what_takes_single_models_refuses_a_pack(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack.safetensors"
    pack_models(work.root, pack, configuration="2d")
    for command in (
        ["export", "nnunet", str(pack), "--out", str(tmp_path / "n")],
        ["plan", str(work.root.parent / "data"), "--like", str(pack), "--work", str(tmp_path)],
        ["train", "--init", str(pack), "--work", str(work.root), "--fold", "2"],
    ):
        assert main(command) == 1
        assert f"{pack}: a pack of 3 models" in capsys.readouterr().err
    with pytest.raises(AutosegError, match="Give it alone"):
        Predictor.load([pack, work.fold(work.plan(None).name, "2d", 0).model])


def test_a_pack_whose_weights_changed_is_refused(work: WorkFolder, tmp_path: Path) -> None:
    pack = tmp_path / "pack.safetensors"
    pack_models(work.root, pack, configuration="2d")
    tensors, metadata = read_tensors(pack)
    next(iter(tensors.values())).add_(1)
    save_tensors(pack, tensors, metadata)
    with pytest.raises(AutosegError, match="its weights are not those that were packed"):
        Predictor.load([pack])


def test_nnunets_rules_try_pairs_alone(
    work: WorkFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "--as", "nnunet", "--work", str(work.root)]) == 0
    selection = selection_of(work)
    assert [len(candidate.members) for candidate in selection.candidates] == [1, 1, 1, 2, 2, 2]
    assert max(c.score for c in selection.candidates) == next(
        c.score for c in selection.candidates if c.members == selection.recipe.members
    )
    assert "Chosen: " in capsys.readouterr().out
    assert main(["select", "--as", "nnunet", "--metric", "iou", "--work", str(work.root)]) == 1


def test_other_metrics_may_decide(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_steps = "autoseg.pipeline.select.measured_postprocessing"
    monkeypatch.setattr(fewer_steps, postprocessing_as_nnunet)
    job = SelectJob(work=work.root, metric="volume_difference_ml", configurations=("2d",))
    selection = select(job, 1)
    assert selection.candidates[0].score > 0  # as the metric is, though less of it is better
    interval = selection.candidates[0].interval
    assert interval.low <= selection.candidates[0].score <= interval.high
    with pytest.raises(AutosegError, match="no such metric of masks with a better end"):
        select(SelectJob(work=work.root, metric="volume_ml"), 1)
    with pytest.raises(AutosegError, match="ece: there is no such metric of masks"):
        select(SelectJob(work=work.root, metric="ece"), 1)


def test_a_candidate_without_any_score_is_told_before_anything_is_chosen(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where masks and references are all empty: the mean would be no number, which wins every
    comparison that it comes first in."""
    before = work.selection.read_bytes()
    nothing = np.full((1, 3), np.nan)
    monkeypatch.setattr("autoseg.pipeline.select.correct_case", lambda case: nothing)
    with pytest.raises(AutosegError, match="have no score in any held-out case"):
        select(SelectJob(work=work.root), 1)
    assert work.selection.read_bytes() == before


def test_a_newer_plan_without_models_hides_none(work: WorkFolder) -> None:
    trained = work.plan(None)
    work.save_plan(trained.model_copy(update={"name": "newer"}))
    state = work.root / "work.json"
    content = json.loads(state.read_text()) | {"current_plan": "newer"}
    state.write_text(json.dumps(content))
    assert find_candidates(work).folds == (0, 1)
    with pytest.raises(AutosegError, match=f"one of {trained.name}/2d, .* with --plan"):
        trained_models(work.root)


def test_folds_that_were_trained_on_other_cases_are_left_out(work: WorkFolder) -> None:
    path = work.fold(work.plan(None).name, "2d", 0).model
    tensors, metadata = read_tensors(path)
    card = read_card(path).model_copy(update={"held_out": ("another",)})
    save_tensors(path, tensors, {**metadata, "autoseg": card.model_dump_json()})
    found = find_candidates(work)
    assert found.folds == (1,)
    assert any("Fold 0" in note and "was trained with other folds" in note for note in found.notes)
    with pytest.raises(AutosegError, match="no fold of 3d_fullres is trained yet"):
        find_candidates(work, configurations=("3d_fullres",))


def test_what_answers_otherwise_is_left_out(work: WorkFolder) -> None:
    plan = work.plan(None)
    slices = plan.configurations["2d"]
    task = DistancePlan(classes=len(plan.labels.values), spacing_mm=(1.0, 1.0, 1.0), reach_mm=4)
    parting = slices.model_copy(update={"model": slices.model.model_copy(update={"task": task})})
    changed = {"configurations": {**plan.configurations, "2d": parting}}
    work.save_plan(plan.model_copy(update=changed))
    found = find_candidates(work)
    assert "2d" not in {member.configuration.name for member in found.members}
    assert any("2d is left out: it answers otherwise (distance)" in note for note in found.notes)


def test_what_dice_to_expect_is_learned_once_and_told_by_predict(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autoseg.evaluation.dice_estimates.FEWEST_MASKS", 1)
    assert selection_of(work).quality is None  # too few cases
    learned = select(SelectJob(work=work.root), 1).quality
    assert learned is not None and learned.folds == 2
    monkeypatch.setattr("autoseg.pipeline.select.learned_quality", lambda *_: None)
    assert select(SelectJob(work=work.root), 1).quality == learned
    out = work.root.parent / "out"
    scan = scan_of(work, work.splits().folds[0].validation[0])
    assert main(["predict", str(scan), str(out), "--work", str(work.root)]) == 0
    assert "Likely Dice" in capsys.readouterr().out
    line = json.loads((out / "provenance.jsonl").read_text())
    assert line["quality"]["classes"].keys() == {quality.name for quality in learned.classes}
