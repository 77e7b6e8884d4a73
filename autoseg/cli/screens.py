"""What the command line shows of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from autoseg.cli.progress import clock
from autoseg.cli.reasons import taken_for
from autoseg.cli.scores import evaluation_screen
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem
from autoseg.evaluation.evaluate import class_names
from autoseg.inspection.consistency import CheckReport
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.pipeline.doctor import Finding
from autoseg.planning.network_plan import network_in_words
from autoseg.quantities import duration_text, size_text

if TYPE_CHECKING:
    from autoseg.images.dicom.survey import LeftOut
    from autoseg.inspection.repair import Repair
    from autoseg.pipeline.plan import PlanOutcome
    from autoseg.pipeline.train import FoldResult
    from autoseg.planning.plan import Plan

LONG_HOURS = 48
LONG_ON_A_CPU = "  that is long; `--rules cpu` plans for a machine without a GPU"
CONSEQUENTIAL = ("patch_size_vox", "network", "loss")
CLASSES_SHOWN = 12
WARNINGS_SHOWN = 3
ASSUMED = "patients_by_name"  # of the notes, what changes the plan
NARROWEST_TABLE = 140


def check_screen(report: CheckReport) -> str:
    """A table of all problems, errors first, one of what needs no remedy, and their count."""
    if not report.problems:
        return f"{report.dataset}: {_counted(report.cases, 'case')}, nothing is wrong."
    order = ("error", "warning", "note")
    ordered = sorted(report.problems, key=lambda p: order.index(p.severity))
    tables = (
        _problem_table([p for p in ordered if p.fix or p.severity != "note"]),
        _notes_table([p for p in ordered if not p.fix and p.severity == "note"]),
    )
    counts = ", ".join(_counted(report.count(severity), severity) for severity in order)
    shown = "\n".join(_drawn(table) for table in tables if table.row_count)
    return f"{shown}{report.dataset}: {_counted(report.cases, 'case')}; {counts}."


def _problem_table(problems: Sequence[Problem]) -> Table:
    """Problems that somebody has to put right; equal ones share a line."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "case", "file", "what is wrong", "how to fix it"):
        table.add_column(title, overflow="fold")
    alike: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.severity, problem.what, problem.fix), []).append(problem)
    for (severity, what, fix), [first, *others] in alike.items():
        file = Path(first.file).name if first.file else ""
        more = f" and {len(others)} more" if others else ""
        table.add_row(severity, f"{first.case_id or ''}{more}", file, what, fix)
    return table


def _notes_table(problems: Sequence[Problem]) -> Table:
    """What is only told, such as which series are scans and which are left out."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "case", "what is told of it"):
        table.add_column(title, overflow="fold")
    for problem in problems:
        table.add_row(problem.severity, problem.case_id or "", problem.what)
    return table


def _drawn(table: Table) -> str:
    console = Console(width=max(Console().width, NARROWEST_TABLE), no_color=True)
    with console.capture() as captured:
        console.print(table, markup=False)
    return captured.get()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def left_out_screen(left_out: "Sequence[LeftOut]") -> str:
    """A table of what a DICOM folder holds and is no scan, and why."""
    table = Table(box=None, pad_edge=False)
    for title in ("left out", "series", "files", "because it is, or has", "UID of the series"):
        table.add_column(title, overflow="fold")
    for one in left_out:
        table.add_row(one.series or "-", one.number, str(one.files), one.why, one.uid)
    return _drawn(table).rstrip()


def repair_screen(folder: Path, repairs: "list[Repair]") -> str:
    """What a corrected copy differs in from its source."""
    lines = [change for repair in repairs for change in repair.changes]
    lines += [f"{r.case_id}: left out; {r.left_out}" for r in repairs if r.left_out]
    lines.append(f"The corrected copy is {folder}; plan it with `autoseg plan {folder}`.")
    return "\n".join(lines)


def plan_screen(outcome: "PlanOutcome", path: Path) -> str:
    """What was seen, what was chosen, what it will take, and the most consequential reasons."""
    plan, fingerprint = outcome.plan, outcome.fingerprint
    configuration = plan.configurations[plan.recommended]
    model, run = configuration.model, configuration.run
    by_name = {d.name: d for d in plan.decisions if d.configuration in (None, plan.recommended)}
    expected = plan.expected[plan.recommended]
    in_all = duration_text(expected.epoch_minutes * run.training.epochs)
    lines = [
        f"Seen: {len(fingerprint.cases)} cases, channels {', '.join(plan.channel_names)}; "
        f"median scan {_times(configuration.inference.median_shape_vox)} voxels at "
        f"{_times(configuration.grid.target_spacing_mm)} mm",
        f"  normalised: {', '.join(map(taken_for, configuration.grid.normalization))}",
        *_class_lines(fingerprint),
        *_problem_lines(outcome.problems),
        f"Chosen by rule set {plan.rule_set}: {plan.recommended} of "
        f"{', '.join(plan.configurations)}; patch {_times(model.patch_size_vox)}, batch "
        f"{run.batch_size}, {network_in_words(model.network)}, loss {run.loss.kind}, "
        f"{run.training.epochs} epochs of {run.training.iterations_per_epoch} "
        "iterations",
        f"Expected: {size_text(expected.memory_gib)} of memory, {expected.epoch_minutes:.1f} "
        f"minutes an epoch, {in_all} a fold (--minutes shortens it), at most "
        f"{size_text(expected.disk_gib)} of disk ({expected.basis})",
        *([f"  {expected.smaller}"] if expected.smaller else []),
        *([LONG_ON_A_CPU] if _wants_a_gpu(plan) else []),
        "Because:",
    ]
    by_hand = [d for d in by_name.values() if d.source == "--set"]
    changed = {part for d in by_hand for part in d.name.split(".")}
    told = (*CONSEQUENTIAL, "task") if plan.labels.things else CONSEQUENTIAL
    lines += [f"  {n}: {by_name[n].because}" for n in told if n in by_name and n not in changed]
    lines += [f"  {d.name}: {d.because}" for d in by_hand]
    work = path.parent.parent
    where = "" if work == Path("autoseg_work") else f" --work {work}"
    lines.append(
        f"The plan is {path}; `autoseg explain{where}` gives every reason. Next: autoseg "
        f"train{where}"
    )
    return "\n".join(lines)


def _wants_a_gpu(plan: "Plan") -> bool:
    """Whether training takes days on a CPU, by rules that are not made for one."""
    long = plan.expected[plan.recommended].fold_hours > LONG_HOURS
    return long and plan.machine.device == "cpu" and plan.rule_set != "cpu"


def _class_lines(fingerprint: Fingerprint) -> list[str]:
    """A line for each class, the rarest first, as far as one screen holds them."""
    rarest = sorted(fingerprint.classes, key=lambda c: c.foreground_fraction)
    shown = fingerprint.classes if len(rarest) <= CLASSES_SHOWN else rarest[:CLASSES_SHOWN]
    lines = [
        f"  class {c.value} {c.name}: {c.foreground_fraction:.1%} of the foreground, in "
        f"{c.case_fraction:.0%} of cases, median component {c.component_volume_mm3_median:.4g} mm³"
        for c in shown
    ]
    if len(rarest) > len(shown):
        lines.append(f"  and {len(rarest) - len(shown)} classes that are more common")
    return lines


def _problem_lines(problems: Sequence[Problem]) -> list[str]:
    """The warnings that matter most to a plan, and how many there are."""
    warnings = [problem for problem in problems if problem.severity == "warning"]
    warnings.sort(key=lambda problem: problem.kind not in ("outlier", "channel_values"))
    assumed = [problem for problem in problems if problem.kind == ASSUMED]
    lines = [f"Note: {problem.message()}" for problem in assumed]
    lines += [f"Warning: {problem.message()}" for problem in warnings[:WARNINGS_SHOWN]]
    if len(warnings) > WARNINGS_SHOWN:
        lines.append(f"{len(warnings)} warnings in all; `autoseg check` lists them")
    return lines


def fold_screen(result: "FoldResult", labels: LabelScheme) -> str:
    """A fold's outcome."""
    text = f"Trained {result.iterations} iterations in {clock(result.seconds)}: {result.folder}"
    if not result.finished:
        return text + "\nIt was stopped, and --resume goes on."
    remarks = "".join(f"\n{remark}" for remark in result.remarks)
    if result.evaluation is None:
        nothing = "\nNo case was held out, so there is nothing to evaluate."
        return text + (remarks or nothing)
    cases = len(result.evaluation.cases)
    named = result.evaluation.model_copy(update={"names": class_names(labels)})
    scores = evaluation_screen(named)
    return f"{text}\n{cases} held-out cases, predicted in full:\n{scores}{remarks}"


def doctor_screen(findings: list[Finding]) -> str:
    """What was found, with advice below what falls short."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.name:<{width}}  {finding.value}")
        if finding.advice:
            lines.append(f"{'':<{width}}  -> {finding.advice}")
    return "\n".join(lines)


def _times(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
