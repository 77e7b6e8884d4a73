"""Decisions explain: none can be forgotten, and none is read to compute something.

Covers: choices, decision_log, planner.
"""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import autoseg
from autoseg.cli.screens import CONSEQUENTIAL, plan_screen
from autoseg.dataset.synthetic import write_dataset
from autoseg.device import Device
from autoseg.networks import family_of
from autoseg.pipeline import fitting
from autoseg.pipeline.fitting import beside_smaller, measured_as_it_is
from autoseg.pipeline.jobs import TrainJob, jobs_in_order
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.planning import decisions
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import ALL_KINDS, DECISIONS, MOOT, STANDS, DecisionKind
from autoseg.planning.facts import gather_facts
from autoseg.planning.likeness import plan_like
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.planner import expected_anew, make_plan
from autoseg.planning.rules import load_rule_set
from autoseg.preprocessing.prepare import preparation_hash
from autoseg.records import read_json
from autoseg.training.measure import Measurement
from autoseg.work_folder import FoldFolder, WorkFolder
from tests.pipeline.tiny import plan_quickly, train, write_rules
from tests.planning.specified import Scans, gpu, made_up_fingerprint

PACKAGE = Path(autoseg.__file__).parent
SHOW = ("cli", "reporting")  # rooms that show decisions to people
# Modules that make decisions, or put some beside those that there are.
MAKE = {
    "planning.decision_log", "planning.likeness", "planning.overrides", "planning.planner",
    "pipeline.fitting",
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs() -> PlanningInputs:
    scans = made_up_fingerprint(Scans((120, 140, 140), (1, 1, 1), count=60))
    return PlanningInputs(scans, load_rule_set("default"), gpu(8), family_of)


@pytest.fixture(scope="module")
def plan(inputs: PlanningInputs) -> Plan:
    return make_plan(inputs)


def test_a_new_decision_cannot_be_forgotten() -> None:
    constants = [v for v in vars(decisions).values() if isinstance(v, DecisionKind)]
    assert len(constants) >= 20
    assert sorted(c.name for c in constants) == sorted(kind.name for kind in ALL_KINDS)
    assert all(DECISIONS[constant.name] is constant for constant in constants)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: str(kind.name))
def test_what_becomes_of_a_decision_is_said_by_a_path_that_there_is(
    kind: DecisionKind[Any], plan: Plan
) -> None:
    if kind.like in (STANDS, MOOT):
        return
    part: Any = plan.configuration(None)
    for name in kind.like.split("."):
        assert name in type(part).model_fields
        part = getattr(part, name)


def test_every_kind_of_decision_is_made_in_every_plan(plan: Plan) -> None:
    made = {(d.name, d.configuration) for d in plan.decisions}
    for kind in ALL_KINDS:
        of = [None] if kind is decisions.RECOMMENDED else list(plan.configurations)
        for name in of:
            if kind is not decisions.LOWRES_SPACING or name == "3d_fullres":
                assert (kind.name, name) in made


def test_a_log_keeps_settings_outcome_and_reasons(inputs: PlanningInputs) -> None:
    name: ConfigurationName = get_args(ConfigurationName)[1]
    log = DecisionLog(inputs.rules, gather_facts(inputs.fingerprint, inputs.machine, name))
    pooling = log.settings(decisions.POOLING)
    assert log.decisions[0].value["min_feature_edge_vox"] == pooling.min_feature_edge_vox
    log.conclude(decisions.POOLING, "strides", patch_size_vox=(8, 8, 8))
    log.conclude_also("kernel_sizes", "kernels", of=decisions.POOLING)
    log.add_reason(decisions.POOLING, "so it is")
    first, second = log.decisions
    assert (first.name, first.value) == ("pooling", "strides")
    assert first.facts["patch_size_vox"] == (8, 8, 8)
    assert first.because.endswith("; so it is")
    assert (second.name, second.value, second.rule_id) == (
        "kernel_sizes", "kernels", first.rule_id,
    )  # fmt: skip


def reads_decisions(path: Path) -> bool:
    """Whether a module takes the decisions out of a plan or a log."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "decisions"
        and isinstance(node.ctx, ast.Load)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_decisions_are_taken_out_of_plans_only_to_be_shown_or_to_have_others_beside_them() -> None:
    modules = {
        str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path
        for path in PACKAGE.rglob("*.py")
    }
    readers = {name for name, path in modules.items() if reads_decisions(path)}
    assert {name for name in readers if not name.startswith(SHOW)} == MAKE


def without_decisions(plan: Plan) -> Plan:
    return plan.model_copy(update={"decisions": ()})


def test_nothing_is_computed_from_decisions(
    plan: Plan, inputs: PlanningInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Device(torch.device("cpu"), "fp32")
    model = plan.configurations["3d_fullres"]
    found = [Measurement(9.0, 1.0), Measurement(1.0, 0.5)]

    def measure(configuration: Configuration, *_: Any) -> Measurement:
        return found[configuration.run.batch_size == 1]

    monkeypatch.setattr(fitting, "measure", measure)
    monkeypatch.setattr(fitting, "usable_memory_gib", lambda machine: 2.0)
    changes: tuple[Callable[[Plan], Plan], ...] = (
        lambda p: with_settings(p, ["training.epochs=7"], family_of),
        lambda p: expected_anew(with_settings(p, ["batch_size=1"], family_of), inputs),
        lambda p: plan_like(model, "model.safetensors", p, inputs),
        lambda p: beside_smaller(p, inputs),
        lambda p: measured_as_it_is(p, here),
    )
    for change in changes:
        changed, blind = change(plan), change(without_decisions(plan))
        assert changed != plan
        assert without_decisions(changed) == without_decisions(blind)


def test_a_work_folder_does_the_same_without_decisions(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    rules = write_rules(tmp_path / "tiny")
    done = []
    for name in ("with", "without"):
        work = WorkFolder(tmp_path / name)
        plan = plan_quickly(tmp_path / "data", work, rules)
        if name == "without":
            work.save_plan(without_decisions(plan))
            assert work.plan(None).decisions == ()
        (job,) = jobs_in_order([TrainJob(fold=0, work=work.root)])
        _, (prepared,) = prepare(work, None, (), Resources(workers=1))
        folder = FoldFolder(train(work, fold=0).folder)
        done.append(
            {
                "job": job.model_copy(update={"work": Path()}),
                "hash": preparation_hash(plan.configuration(None).grid, plan.labels),
                "prepared": prepared.name,
                "run": read_json(folder.run),
                "summary": read_json(folder.summary),
            }
        )
    assert done[0] == done[1]
    assert done[0]["hash"] == done[0]["prepared"]


def test_the_screen_shows_what_is_expected_whatever_decisions_say(
    tmp_path: Path, synthetic_dataset: Path
) -> None:
    job = PlanJob(dataset=synthetic_dataset, work=tmp_path, target="cpu")
    outcome = plan_dataset(job, workers=1)
    blank = tuple(
        d.model_copy(update={"value": None, "facts": {}, "because": "?"})
        for d in outcome.plan.decisions
        if d.name in CONSEQUENTIAL
    )
    lines = plan_screen(outcome, tmp_path).splitlines()
    told = replace(outcome, plan=outcome.plan.model_copy(update={"decisions": blank}))
    reasons = lines.index("Because:")
    assert plan_screen(told, tmp_path).splitlines()[:reasons] == lines[:reasons]
    assert any(line.startswith("Expected: ") for line in lines[:reasons])


def test_rules_that_take_days_on_a_cpu_are_told_apart_from_those_for_one(
    tmp_path: Path, synthetic_dataset: Path
) -> None:
    outcome = plan_dataset(PlanJob(dataset=synthetic_dataset, work=tmp_path, target="cpu"), 1)
    hint = "`--rules cpu` plans for a machine without a GPU"
    for rules, hours, told in (("default", 49, True), ("default", 47, False), ("cpu", 49, False)):
        expected = {
            name: known.model_copy(update={"fold_hours": hours})
            for name, known in outcome.plan.expected.items()
        }
        plan = outcome.plan.model_copy(update={"rule_set": rules, "expected": expected})
        assert (hint in plan_screen(replace(outcome, plan=plan), tmp_path)) == told
