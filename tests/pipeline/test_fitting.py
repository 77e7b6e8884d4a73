"""Plans and trainings that fit into memory and time.

Covers: planning.expectation, training.measure.
"""

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from autoseg.cli import main
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.synthetic import write_dataset
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.pipeline import fitting
from autoseg.pipeline.fitting import (
    FoldRun,
    Place,
    beside_smaller,
    fitted_run,
    measured_as_it_is,
    measured_plan,
    plan_within,
)
from autoseg.pipeline.plan import PlanJob, PlanOutcome, plan_dataset
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.rules import load_rule_set
from autoseg.quantities import duration_text, size_text
from autoseg.records import load_record
from autoseg.training.measure import Measurement, measure_training
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, WorkFolder
from tests.pipeline.tiny import plan_quickly, train, write_rules
from tests.planning.specified import Scans, gpu, made_up_fingerprint

HERE = Device(torch.device("cpu"), "fp32")
PATCH_GIB = 0.01


def planned(dataset: Path, work: Path, **job: Any) -> PlanOutcome:
    job = {"rules": "nnunet", "target": "cpu"} | job
    return plan_dataset(PlanJob(dataset=dataset, work=work, **job), workers=1)


def with_little_memory(
    monkeypatch: pytest.MonkeyPatch, usable_gib: float, patch_gib: float = PATCH_GIB
) -> list[int]:
    """Let each patch of a batch take so much of so little; the batches that are measured."""
    measured: list[int] = []

    def measure(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
        measured.append(configuration.run.batch_size)
        return Measurement(patch_gib * configuration.run.batch_size, 0.5)

    monkeypatch.setattr(fitting, "measure", measure)
    monkeypatch.setattr(fitting, "usable_memory_gib", lambda machine: usable_gib)
    return measured


def test_a_training_step_is_really_run(tmp_path: Path, synthetic_dataset: Path) -> None:
    rules = write_rules(tmp_path / "tiny")
    plan = plan_quickly(synthetic_dataset, WorkFolder(tmp_path / "work"), rules)
    measurement = measure_training(plan.configurations["3d_fullres"], plan.labels, HERE)
    assert measurement.peak_memory_gib is not None and measurement.step_seconds is not None
    assert 0.001 < measurement.peak_memory_gib < 4
    assert 1e-4 < measurement.step_seconds < 60


def test_what_does_not_fit_is_planned_smaller(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = planned(synthetic_dataset, tmp_path)
    found = [Measurement(None, None), Measurement(4.0, 1.0), Measurement(1.5, 0.25)]
    measured: list[int] = []  # voxels of each batch

    def pretend(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
        voxels = configuration.run.batch_size * prod(configuration.model.patch_size_vox)
        measured.append(voxels)
        return found[len(measured) - 1]

    monkeypatch.setattr(fitting, "measure", pretend)
    monkeypatch.setattr(fitting, "usable_memory_gib", lambda machine: 2.0)
    rules, machine = load_rule_set("nnunet"), outcome.plan.machine
    inputs = PlanningInputs(outcome.fingerprint, rules, machine, family_of)
    plan = measured_plan(outcome.plan, inputs, HERE)
    assert measured[0] > measured[1] > measured[2]
    expected = plan.expected["3d_fullres"]
    assert (expected.memory_gib, expected.step_seconds) == (1.5, 0.25)
    assert expected.basis == "measured"
    decision = next(
        d for d in plan.decisions if (d.name, d.configuration) == ("expectation", "3d_fullres")
    )
    assert decision.rule_id == "expectation.measured"
    assert (decision.value["memory_gib"], decision.value["step_seconds"]) == (1.5, 0.25)


def of_eight(plan: Plan) -> Configuration:
    configuration = plan.configurations["3d_fullres"]
    run = configuration.run.model_copy(update={"batch_size": 8})
    return configuration.model_copy(update={"run": run})


def test_training_begins_with_a_batch_that_fits(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(synthetic_dataset, tmp_path).plan
    large, expected = of_eight(plan), plan.expected["3d_fullres"]
    with_little_memory(monkeypatch, usable_gib=0.05)
    fitting_run = fitted_run(large, plan.labels, expected, Place(HERE))
    smaller = fitting_run.configuration.run
    assert (smaller.batch_size, smaller.training.accumulated_batches) == (4, 2)
    (change,) = fitting_run.changes
    assert "batches of 4, 2 to a step: those of 8 that were planned did not fit" in change
    kept = smaller.model_copy(update={"batch_size": 8, "training": large.run.training})
    assert kept == large.run
    again = fitted_run(fitting_run.configuration, plan.labels, expected, Place(HERE))
    assert again == FoldRun(configuration=fitting_run.configuration)
    with_little_memory(monkeypatch, usable_gib=0.001)
    with pytest.raises(AutosegError, match=r"Not even 1 patches .* fit into"):
        fitted_run(large, plan.labels, expected, Place(HERE))


def test_what_is_surely_small_enough_is_not_measured(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(synthetic_dataset, tmp_path).plan
    large = of_eight(plan)
    expected = plan.expected["3d_fullres"].model_copy(update={"memory_gib": 2.0})
    measured = with_little_memory(monkeypatch, usable_gib=4.1)
    assert fitted_run(large, plan.labels, expected, Place(HERE)) == FoldRun(configuration=large)
    assert measured == []
    measured = with_little_memory(monkeypatch, usable_gib=3.9)
    assert fitted_run(large, plan.labels, expected, Place(HERE)) == FoldRun(configuration=large)
    assert measured == [8]
    measured = with_little_memory(monkeypatch, usable_gib=2.1)  # half of it for each of two
    assert fitted_run(large, plan.labels, expected, Place(HERE, 2)).changes == ()
    assert measured == []


def test_a_plan_set_by_hand_is_measured_with_its_patch(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(synthetic_dataset, tmp_path).plan
    plan = plan.model_copy(
        update={"configurations": plan.configurations | {"3d_fullres": of_eight(plan)}}
    )
    with_little_memory(monkeypatch, usable_gib=0.05)
    fits = measured_as_it_is(plan, HERE)
    run, expected = fits.configurations["3d_fullres"].run, fits.expected["3d_fullres"]
    assert (run.batch_size, run.training.accumulated_batches) == (4, 2)
    assert fits.configurations["3d_fullres"].model == plan.configurations["3d_fullres"].model
    assert (expected.memory_gib, expected.step_seconds) == (0.04, 1.0)  # two batches of 0.5 s
    reasons = {d.rule_id: d.because for d in fits.decisions}
    assert "did not fit into memory when measured" in reasons["batch_size.measured"]
    assert [d for d in measured_as_it_is(fits, HERE).decisions if d.source == "--measure"] == [
        d for d in fits.decisions if d.source == "--measure"
    ]


def test_measuring_on_a_machine_that_is_elsewhere_is_refused(
    tmp_path: Path, synthetic_dataset: Path
) -> None:
    with pytest.raises(AutosegError, match="--measure runs on this machine"):
        planned(synthetic_dataset, tmp_path, target="gpu:24", measure=True)


def inputs_for(memory_gib: float, hours_given: bool = False) -> PlanningInputs:
    scans = made_up_fingerprint(Scans((400, 512, 512), (1, 0.8, 0.8), count=100))
    rules = load_rule_set("default")
    return PlanningInputs(scans, rules, gpu(memory_gib), family_of, hours_given=hours_given)


def test_by_default_large_gpus_train_the_published_preset_unless_hours_are_given() -> None:
    capped, whole = inputs_for(80), inputs_for(80, hours_given=True)
    plan = plan_within(capped, None, hours=None)[0]
    expected = plan.expected["3d_fullres"]
    assert (expected.planned_gib, plan.expected["2d"].planned_gib) == (24, 24)
    decision = next(d for d in plan.decisions if d.name == "memory_gib")
    assert "80 GiB" in decision.because and "unless --hours asks for more" in decision.because
    given = plan_within(whole, None, hours=10_000)[0]
    assert given.expected["3d_fullres"].planned_gib == pytest.approx(72)
    larger = given.configurations["3d_fullres"].model.patch_size_vox
    assert prod(larger) > prod(plan.configurations["3d_fullres"].model.patch_size_vox)
    assert given.expected["3d_fullres"].fold_hours > expected.fold_hours
    small = plan_within(inputs_for(20), None, hours=None)[0]  # which the cap does not concern
    assert small.expected["3d_fullres"].planned_gib == pytest.approx(18)


def test_a_gpu_that_is_here_has_the_same_cap_as_one_that_is_given() -> None:
    given = inputs_for(80)
    here = replace(given, machine=gpu(80, name="one that is here"))
    one, other = (plan_within(inputs, None, hours=None)[0] for inputs in (given, here))
    assert one.configurations == other.configurations
    rule_ids = [
        next(d.rule_id for d in p.decisions if d.name == "memory_gib") for p in (one, other)
    ]
    assert rule_ids == ["memory.gpu_given", "memory.gpu"]


def test_few_hours_give_a_smaller_plan() -> None:
    inputs = inputs_for(80, hours_given=True)
    whole = plan_within(inputs, None, hours=10_000)[0]
    hours = whole.expected["3d_fullres"].fold_hours
    same, half, least = (plan_within(inputs, None, hours=h)[0] for h in (hours, hours / 2, 1e-3))
    assert same == whole
    assert half.expected["3d_fullres"].fold_hours <= hours / 2
    memory_gib = [p.expected["3d_fullres"].planned_gib or 0 for p in (whole, half, least)]
    assert memory_gib[0] > memory_gib[1] > memory_gib[2]
    assert memory_gib[2] == pytest.approx(fitting.STEPS_DOWN[-1] * memory_gib[0])


def test_hours_are_asked_for_when_planning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data", 5, shape_vox=(96, 96, 40))
    plans = {}
    for name, more in (("whole", []), ("short", ["--hours", "0.001"])):
        work = ["--work", str(tmp_path / name), "--workers", "1", "--for", "cpu", "--json"]
        assert main(["plan", str(tmp_path / "data"), *work, *more]) == 0
        plans[name] = Plan.model_validate_json(capsys.readouterr().out)
    hours = {name: plan.expected["3d_fullres"].fold_hours for name, plan in plans.items()}
    patches = {n: p.configurations["3d_fullres"].model.patch_size_vox for n, p in plans.items()}
    assert prod(patches["short"]) < prod(patches["whole"])
    assert hours["short"] < hours["whole"]
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path / "data"), "--hours", "0"])


def test_the_plans_screen_says_what_the_next_smaller_plan_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data", 5, shape_vox=(96, 96, 40))
    arguments = ["plan", str(tmp_path / "data"), "--workers", "1", "--for", "cpu"]
    assert main([*arguments, "--work", str(tmp_path / "work")]) == 0
    screen = capsys.readouterr().out
    plan = WorkFolder(tmp_path / "work").plan(None)
    said = plan.expected["3d_fullres"].smaller
    assert said is not None and said in screen
    outcome = planned(tmp_path / "data", tmp_path / "again", rules="cpu")
    rules, machine = load_rule_set("cpu"), outcome.plan.machine
    inputs = PlanningInputs(outcome.fingerprint, rules, machine, family_of, memory_factor=0.5)
    smaller = plan_within(inputs, None, None)[0]
    expected, patch = (
        smaller.expected["3d_fullres"],
        smaller.configurations["3d_fullres"].model.patch_size_vox,
    )
    assert f"patches of {' x '.join(map(str, patch))}," in said
    epochs = smaller.configurations["3d_fullres"].run.training.epochs
    takes = duration_text(expected.epoch_minutes * epochs)
    assert said.endswith(f"{size_text(expected.memory_gib)} and {takes} a fold")
    decisions = beside_smaller(plan, inputs).decisions
    told = {d.configuration: d.facts for d in decisions if d.name == "expectation"}
    assert told["3d_fullres"]["multiply_adds_per_s"] == inputs.speed.multiply_adds_per_s


def test_with_few_hours_too_the_smaller_plan_is_smaller() -> None:
    plan, inputs = plan_within(inputs_for(40, hours_given=True), None, hours=25)
    said = beside_smaller(plan, inputs).expected["3d_fullres"].smaller
    assert said is not None
    hours = float(said.rpartition(" and ")[2].partition(" ")[0])
    assert hours < plan.expected["3d_fullres"].fold_hours <= 25


def test_where_nothing_is_smaller_nothing_is_said() -> None:
    scans = made_up_fingerprint(Scans((16, 16, 16), (1, 1, 1), count=2))
    inputs = PlanningInputs(scans, load_rule_set("default"), gpu(24), family_of)
    plan = plan_within(inputs, None, None)[0]
    assert beside_smaller(plan, inputs).expected[plan.recommended].smaller is None


def test_a_fold_is_fitted_to_its_machine_and_the_plan_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    rules = write_rules(tmp_path / "tiny")
    plan = plan_quickly(tmp_path / "data", work, rules, "batch_size=4")
    shared = work.plan_path(plan.name).read_bytes()
    config = plan.configuration(None)
    whole = FoldFolder(train(work, fold=1).folder)
    monkeypatch.setattr(fitting, "EASILY", 0.0)
    with_little_memory(monkeypatch, usable_gib=0.025)
    result = train(work, fold=0)
    folder = FoldFolder(result.folder)
    assert result.finished and result.iterations == 2
    run = load_record(FoldRun, folder.run)
    trained = run.configuration.run
    assert (trained.batch_size, trained.training.accumulated_batches) == (2, 2)
    assert run.configuration.model == config.model
    assert "batches of 2, 2 to a step" in run.changes[0]
    assert load_record(FoldRun, whole.run) == FoldRun(configuration=config)
    assert work.plan_path(plan.name).read_bytes() == shared
    # Each goes on as it was begun, whatever fits by now.
    measured = with_little_memory(monkeypatch, usable_gib=0.015)
    for one, batch_size in ((whole, 4), (folder, 2)):
        fold = int(one.root.name.removeprefix("fold_"))
        resumed = train(work, fold=fold, start="resume", budget=Budget(iterations=3))
        assert resumed.iterations == 3
        assert load_record(FoldRun, one.run).configuration.run.batch_size == batch_size
    assert measured == []
    assert work.plan_path(plan.name).read_bytes() == shared
    models = ["--model", str(whole.model), str(folder.model)]  # of one model, so averaged
    scans = [str(tmp_path / "data" / "imagesTr"), str(tmp_path / "out")]
    assert main(["predict", *scans, *models, "--device", "cpu", "--json"]) == 0


def test_a_fold_that_was_fitted_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, write_rules(tmp_path / "tiny"), "batch_size=4")
    monkeypatch.setattr(fitting, "EASILY", 0.0)
    with_little_memory(monkeypatch, usable_gib=0.025)
    train(work, fold=0)
    assert "3d_fullres: batches of 2, 2 to a step" in caplog.text
    described = json.loads((work.root / "models/tiny/3d_fullres/fold_0/run.json").read_text())
    assert described["changes"][0] in caplog.text
