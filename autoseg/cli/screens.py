"""What the command line shows: text for results, bars for progress."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from autoseg.cli.reasons import taken_for
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem
from autoseg.evaluation.evaluate import class_names
from autoseg.evaluation.evaluation import Evaluation
from autoseg.inspection.consistency import CheckReport
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.pipeline.doctor import Finding

if TYPE_CHECKING:
    from autoseg.inspection.repair import Repair
    from autoseg.pipeline.plan import PlanOutcome
    from autoseg.pipeline.train import FoldResult
    from autoseg.training.metrics_log import EpochSummary
    from autoseg.training.validation import Example

CONSEQUENTIAL = ("patch_size_vox", "network", "loss")
CLASSES_SHOWN = 12
WARNINGS_SHOWN = 3
ASSUMED = "patients_by_name"  # of the notes, what changes the plan
NARROWEST_TABLE = 140
SECONDS_OF_SILENCE = 30
REWRITE_LINE = "\r\x1b[K"


class ProgressBars:
    """A bar on stderr for each thing that is counted; a listener for pipeline stages.

    In a file or pipe it is a line now and then.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.told = time.monotonic()

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        if what not in self.tasks:
            self.bars.start()
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)
        if self.bars.disable and time.monotonic() - self.told > SECONDS_OF_SILENCE:
            self.bars.console.print(f"{what}: {done} of {total}")
            self.told = time.monotonic()
        if done == total:
            self.bars.remove_task(self.tasks.pop(what))
            if not self.tasks:
                self.bars.stop()


class TrainingView:
    """A training as text: a line that stays for each epoch, and a `live` one that is rewritten."""

    def __init__(self, fold: str, write: Callable[[str], None], live: bool) -> None:
        self.fold = fold
        self.write = write
        self.started = time.monotonic()
        self.first_fraction: float | None = None
        self.live = live

    def __enter__(self) -> "TrainingView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        if self.first_fraction is None:
            self.started, self.first_fraction = time.monotonic(), fraction
        if self.live:
            left = self._seconds_left(fraction)
            text = f"fold {self.fold}  iteration {iteration}  {fraction:4.0%}  loss {loss:.3f}"
            self.write(f"{REWRITE_LINE}{text}  {_clock(left)} left")

    def on_message(self, text: str) -> None:
        self._clear()
        self.write(f"{text}\n")

    def on_epoch(self, summary: "EpochSummary", examples: "Sequence[Example]") -> None:
        self._clear()
        dice = "  ".join(
            f"{name} {'-' if value is None else f'{value:.3f}'}"
            for name, value in summary.patch_dice.items()
        )
        self.write(
            f"fold {self.fold}  epoch {summary.epoch:4d}  iteration {summary.iteration:6d}  "
            f"{_clock(summary.elapsed_s)}  loss {summary.train_loss:.3f}  patch Dice  {dice}\n"
        )

    def _seconds_left(self, fraction: float) -> float:
        done = fraction - (self.first_fraction or 0.0)
        spent = time.monotonic() - self.started
        return spent / done * (1 - fraction) if done > 0 else 0.0

    def _clear(self) -> None:
        if self.live:
            self.write(REWRITE_LINE)


def check_screen(report: CheckReport) -> str:
    """A table of all problems, errors first, and their count; equal ones share a line."""
    if not report.problems:
        return f"{report.dataset}: {report.cases} cases, nothing is wrong."
    table = Table(box=None, pad_edge=False)
    for title in ("", "case", "file", "what is wrong", "how to fix it"):
        table.add_column(title, overflow="fold")
    order = ("error", "warning", "note")
    alike: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in sorted(report.problems, key=lambda p: order.index(p.severity)):
        alike.setdefault((problem.severity, problem.what, problem.fix), []).append(problem)
    for (severity, what, fix), [first, *others] in alike.items():
        file = Path(first.file).name if first.file else ""
        more = f" and {len(others)} more" if others else ""
        table.add_row(severity, f"{first.case_id or ''}{more}", file, what, fix)
    counts = ", ".join(f"{report.count(severity)} {severity}s" for severity in order)
    console = Console(width=max(Console().width, NARROWEST_TABLE), no_color=True)
    with console.capture() as captured:
        console.print(table, markup=False)
    return f"{captured.get()}{report.dataset}: {report.cases} cases; {counts}."


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
    stages = model.network.stages
    by_name = {d.name: d for d in plan.decisions if d.configuration in (None, plan.recommended)}
    expected = plan.expected[plan.recommended]
    in_all = _duration(expected.epoch_minutes * run.training.epochs)
    lines = [
        f"Seen: {len(fingerprint.cases)} cases, channels {', '.join(plan.channel_names)}; "
        f"median scan {_times(configuration.inference.median_shape_vox)} voxels at "
        f"{_times(configuration.grid.target_spacing_mm)} mm",
        f"  normalised: {', '.join(map(taken_for, configuration.grid.normalization))}",
        *_class_lines(fingerprint),
        *_problem_lines(outcome.problems),
        f"Chosen by rule set {plan.rule_set}: {plan.recommended} of "
        f"{', '.join(plan.configurations)}; patch {_times(model.patch_size_vox)}, batch "
        f"{run.batch_size}, {model.network.kind} of {len(stages)} stages with "
        f"{stages[0].features} to {stages[-1].features} features, loss {run.loss.kind}, "
        f"{run.training.epochs} epochs of {run.training.iterations_per_epoch} "
        "iterations",
        f"Expected: {_size(expected.memory_gib)} of memory, {expected.epoch_minutes:.1f} "
        f"minutes an epoch, {in_all} a fold (--minutes shortens it), at most "
        f"{_size(expected.disk_gib)} of disk ({expected.basis})",
        *([f"  {expected.smaller}"] if expected.smaller else []),
        "Because:",
    ]
    by_hand = [d for d in by_name.values() if d.source == "--set"]
    changed = {part for d in by_hand for part in d.name.split(".")}
    lines += [f"  {n}: {by_name[n].because}" for n in CONSEQUENTIAL if n not in changed]
    lines += [f"  {d.name}: {d.because}" for d in by_hand]
    work = path.parent.parent
    where = "" if work == Path("autoseg_work") else f" --work {work}"
    lines.append(
        f"The plan is {path}; `autoseg explain{where}` gives every reason. Next: autoseg "
        f"train{where}"
    )
    return "\n".join(lines)


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
    text = f"Trained {result.iterations} iterations in {_clock(result.seconds)}: {result.folder}"
    if not result.finished:
        return text + "\nIt was stopped, and --resume goes on."
    remarks = "".join(f"\n{remark}" for remark in result.remarks)
    if result.evaluation is None:
        nothing = "\nNo case was held out, so there is nothing to evaluate."
        return text + (remarks or nothing)
    cases = len(result.evaluation.cases)
    scores = evaluation_screen(result.evaluation, class_names(labels))
    return f"{text}\n{cases} held-out cases, predicted in full:\n{scores}{remarks}"


def evaluation_screen(evaluation: Evaluation, names: dict[str, str]) -> str:
    """Mean Dice of each class, by name where known, and over classes."""
    rows = [
        (f"{value} {names.get(value, '')}".strip(), mean["dice"])
        for value, mean in evaluation.classes.items()
    ]
    rows.append((f"mean of {len(evaluation.cases)} cases", evaluation.mean.get("dice")))
    width = max(len(label) for label, _ in rows)
    lines = [
        f"  {label:<{width}}  Dice {'-' if dice is None else f'{dice:.4f}'}" for label, dice in rows
    ]
    if evaluation.references_without_mask:
        count = len(evaluation.references_without_mask)
        lines.append(f"  {count} references have no mask here and are not counted")
    if evaluation.labels_from:
        lines.append(f"  names from {evaluation.labels_from}")
    return "\n".join(lines)


def doctor_screen(findings: list[Finding]) -> str:
    """What was found, with advice below what falls short."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.name:<{width}}  {finding.value}")
        if finding.advice:
            lines.append(f"{'':<{width}}  -> {finding.advice}")
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    """About how long, in the unit that people would use."""
    for unit, length in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * length:
            return f"{minutes / length:.0f} {unit}"
    return f"{minutes:.0f} minutes"


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.0f} MiB"


def _times(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
