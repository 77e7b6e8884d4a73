"""Scores: means with intervals, medians, what was missed, boxes, and how all of it is counted."""

from collections.abc import Sequence

from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.statistics import Statistics
from autoseg.reporting.content import ReportContent, Scored
from autoseg.reporting.page import Section, fill
from autoseg.reporting.score_charts import draw_boxes
from autoseg.reporting.tables import MISSING, Cell, Table, head, number, words

TEMPLATE = """
{% for scored, overlap, others, pngs in parts %}
<h3>{{ scored.name }}</h3>
<p>{{ scored.what }}.</p>
{{ table(overlap) }}
{% if others.body %}{{ table(others) }}{% endif %}
{% for label, png in pngs %}{{ figure(png, label ~ " of every case by class, of " ~ scored.name,
label ~ ". Every case is a point. Boxes reach from quartile to quartile, with a line at the median;
whiskers to the last case within 1.5 times their height.") }}{% endfor %}
{% if scored.evaluation.notes %}<ul>{% for note in scored.evaluation.notes %}<li>{{ note }}</li>
{% endfor %}</ul>{% endif %}
{% endfor %}
<details><summary>How this is counted</summary>
<p>Square brackets hold {{ evaluation.interval_rule }}. Missed: the class is in the reference alone.
Hallucinated: in the prediction alone. {{ evaluation.empty_rule|capitalize }}. Means are over cases
in which a metric is defined.</p>
<table class="plain">{% for name, note in notes %}
<tr><th scope="row">{{ name }}</th><td>{{ note.formula }}{{ ", in " ~ note.unit if note.unit }}</td>
<td>both masks empty: {{ note.both_empty }}; one: {{ note.one_empty }}</td></tr>{% endfor %}</table>
</details>
"""

# How metrics are headed, and with what digits; Dice has columns of its own.
OTHERS = {
    "iou": ("IoU", ".3f"),
    "nsd": ("NSD", ".3f"),
    "hd95_mm": ("HD95 (mm)", ".2f"),
    "asd_mm": ("ASD (mm)", ".2f"),
    "precision": ("precision", ".3f"),
    "sensitivity": ("sensitivity", ".3f"),
    "volume_difference_percent": ("volume difference (%)", "+.1f"),
    "lesion_sensitivity": ("lesions found", ".3f"),
    "lesion_f1": ("F1 of lesions", ".3f"),
}
BOXES = {"dice": "Dice", "nsd": "NSD", "hd95_mm": "HD95 (mm)"}


def scores_section(content: ReportContent) -> Section | None:
    """Tables and charts of each set of scores."""
    if not content.scored:
        return None
    evaluation = content.scored[0].evaluation
    html = fill(
        TEMPLATE,
        parts=[(s, _dice_table(s), _other_metrics(s), _boxes(s)) for s in content.scored],
        evaluation=evaluation,
        notes=[(n, m) for n, m in evaluation.metrics.items() if n in OTHERS or n in BOXES],
    )
    return Section("scores", "Scores", html)


def dice_summary(evaluation: Evaluation, key: str) -> tuple[str, str]:
    """The mean Dice of a class, and its interval, as text."""
    found = evaluation.statistics.get(key, {}).get("dice")
    if found is None or found.mean is None:
        return MISSING, ""
    low_high = found.interval_95
    interval = "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}"
    return f"{found.mean:.3f}", interval


def _boxes(scored: Scored) -> list[tuple[str, bytes]]:
    drawn = [(label, draw_boxes(scored, metric, label)) for metric, label in BOXES.items()]
    return [(label, png) for label, png in drawn if png is not None]


def _dice_table(scored: Scored) -> Table:
    """Dice in detail, and in how many cases a class was missed."""
    evaluation = scored.evaluation
    heads = [words("class")]
    heads += [head(text) for text in ("cases", "mean Dice", "median", "5 %", "95 %")]
    heads += [head(text) for text in ("missed", "hallucinated", "in neither")]
    body = []
    for key, colour in scored.class_colours().items():
        found, counts = evaluation.statistics[key]["dice"], evaluation.counts[key]
        numbers = [number(count, ",d") for count in (counts.missed, counts.hallucinated)]
        row = [Cell(scored.class_name(key), colour=colour), *_spread(found), *numbers]
        body.append([*row, number(counts.both_empty, ",d")])
    mean = evaluation.mean_statistics.get("dice")
    foot = [] if mean is None else [[words("mean"), *_spread(mean), *[words("")] * 3]]
    return Table(heads, body, foot=foot, caption="Dice")


def _spread(found: Statistics) -> list[Cell]:
    return [
        number(found.defined, ",d"),
        _with_interval(found, ".3f"),
        *(number(value) for value in (found.median, found.percentile_5, found.percentile_95)),
    ]


def _other_metrics(scored: Scored) -> Table:
    """Means of whatever else was measured."""
    evaluation = scored.evaluation
    means = evaluation.classes.values()
    shown = [name for name in OTHERS if any(mean.get(name) is not None for mean in means)]
    heads = [words("class"), *(head(OTHERS[name][0]) for name in shown)]
    body = [
        [Cell(scored.class_name(key), colour=colour), *_means(evaluation.statistics[key], shown)]
        for key, colour in scored.class_colours().items()
    ]
    foot = [[words("mean"), *_means(evaluation.mean_statistics, shown)]]
    if not shown:
        return Table(heads, ())
    return Table(heads, body, foot=foot, caption="Means of other metrics")


def _means(statistics: dict[str, Statistics], names: Sequence[str]) -> list[Cell]:
    return [_with_interval(statistics[name], OTHERS[name][1]) for name in names]


def _with_interval(found: Statistics, style: str) -> Cell:
    """A mean with its interval, sorted by the mean."""
    mean = number(found.mean, style)
    if found.mean is None or found.interval_95 is None:
        return mean
    low, high = (format(end, style) for end in found.interval_95)
    return Cell(f"{mean.text} [{low}, {high}]", found.mean, number=True)
