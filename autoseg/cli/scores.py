"""How scores look: a table of what is read first, worst cases, comparisons, the list of metrics."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from autoseg.evaluation.comparison import Comparison, Difference
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from autoseg.evaluation.metrics import METRICS, Score

# What is read first, and how it is headed; the rest is in JSON and CSV.
READ_FIRST = {
    "dice": "Dice",
    "nsd": "NSD",
    "hd95_mm": "HD95 mm",
    "volume_difference_percent": "volume %",
    "lesion_sensitivity": "lesions found",
}
WITH_INTERVAL = "dice"
MOST_SHOWN = 6
WORST = 3
WIDEST = 1000  # that is, lines are never cut


def evaluation_screen(evaluation: Evaluation, asked: Sequence[str] = ()) -> str:
    """Means of each class by what is read first, or by metrics that were asked for."""
    shown = _shown(evaluation, asked)
    rows: list[tuple[str | None, Score]] = [*evaluation.classes.items(), (None, evaluation.mean)]
    table = _table("", *(READ_FIRST.get(name, name) for name in shown), "missed", "hallucinated")
    for name, means in rows:
        cells = [_number(metric, means.get(metric)) for metric in shown]
        for column, metric in enumerate(shown):
            if metric in (*asked, WITH_INTERVAL):
                cells[column] += _interval(metric, evaluation.interval_95(name, metric))
        counts = evaluation.counts.get(name) if name else None
        missed = ("", "") if counts is None else (str(counts.missed), str(counts.hallucinated))
        table.add_row(evaluation.title_of(name) if name else "mean", *cells, *missed)
    return "\n".join([_drawn(table), *_lines_below(evaluation)])


def comparison_screen(comparison: Comparison, first: Evaluation, asked: Sequence[str] = ()) -> str:
    """Differences of each class by what is read first, or by metrics that were asked for."""
    shown = [name for name in _shown(first, asked) if name in comparison.mean]
    rows = {first.title_of(name): found for name, found in comparison.classes.items()}
    table = _table("", "", "difference [95 %]", "p")
    for title, found in [*rows.items(), ("mean", comparison.mean)]:
        for name in shown:
            label = title if name == shown[0] else ""
            heading = READ_FIRST.get(name, name)
            if METRICS[name].better == "zero":
                heading = f"|{heading}|"  # the distance from zero
            table.add_row(label, heading, *_difference(name, found[name]))
    pooled = [READ_FIRST.get(name, name) for name in shown if METRICS[name].pooled]
    note = (
        f"\n{', '.join(pooled)}: of all scans together above, the mean of single scans here."
        if pooled
        else ""
    )
    headline = (
        f"{comparison.other} less {comparison.first}, in {len(comparison.cases)} cases of both:"
    )
    return f"{headline}\n{_drawn(table)}{note}"


def metrics_screen() -> str:
    """Every metric with its unit, the good end of its scale, and formula."""
    notes = metric_notes(tuple(METRICS))
    width = max(map(len, notes))
    return "\n".join(
        f"  {name:<{width}}  {note.unit or '-':<8} {note.better or '-':<7} {note.formula}"
        for name, note in notes.items()
    )


def _shown(evaluation: Evaluation, asked: Sequence[str]) -> list[str]:
    """Metrics that are defined for some class."""
    names = list(asked)[:MOST_SHOWN] or list(READ_FIRST)
    means = evaluation.classes.values()
    known = [name for name in names if any(mean.get(name) is not None for mean in means)]
    return known or [name for name in names if any(name in mean for mean in means)]


def _interval(metric: str, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return ""
    low, high = ends
    return f" [{_number(metric, low)}, {_number(metric, high)}]"


def _difference(metric: str, found: Difference) -> tuple[str, str]:
    sign = "+" if found.mean is not None and found.mean > 0 else ""
    # Differences of metrics that look at all scans together are of single scans, and have none.
    between = "" if METRICS[metric].pooled else _interval(metric, found.interval_95)
    p = "-" if found.wilcoxon_p is None else f"{found.wilcoxon_p:.2g}"
    return f"{sign}{_number(metric, found.mean)}{between}", p


def _number(metric: str, value: float | None) -> str:
    """Shares with four digits, other units with two."""
    if value is None:
        return "-"
    return f"{value:.4f}" if not METRICS[metric].unit else f"{value:.2f}"


def _lines_below(evaluation: Evaluation) -> list[str]:
    cases, patients = len(evaluation.cases), len(set(evaluation.patients.values()))
    of = f" of {patients} patients" if patients and patients < cases else ""
    lines = [f"  {cases} {'case' if cases == 1 else 'cases'}{of}"]
    if evaluation.statistics:
        lines[0] += "; means over cases in which they are defined [95 % confidence interval]"
    if worst := _worst(evaluation):
        lines.append(f"  lowest Dice: {', '.join(worst)}")
    if evaluation.references_without_mask:
        count = len(evaluation.references_without_mask)
        lines.append(f"  {count} references have no mask here and are not counted")
    if evaluation.labels_from:
        lines.append(f"  names from {evaluation.labels_from}")
    return lines


def _worst(evaluation: Evaluation) -> list[str]:
    """The cases of lowest Dice, each with its worst class."""
    lowest = [
        min((dice, case_id, name) for name, dice in known)
        for case_id, classes in evaluation.cases.items()
        if (known := [(n, d) for n, s in classes.items() if (d := s.get("dice")) is not None])
    ]
    if len(lowest) <= WORST:
        return []
    return [
        f"{case_id} {dice:.4f} ({evaluation.title_of(name)})"
        for dice, case_id, name in sorted(lowest)[:WORST]
    ]


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _drawn(table: Table) -> str:
    console = Console(width=WIDEST, no_color=True, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table, highlight=False)
    return "\n".join(f"  {line.rstrip()}" for line in captured.get().splitlines())
