"""One HTML page of scores and figures that stands on its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.evaluation.evaluation import Evaluation
from autoseg.reporting.charts import colour_of
from autoseg.reporting.mosaic import MosaicScan, draw_mosaic
from autoseg.reporting.page import encode_png, write_page

TEMPLATE = """{% extends "page" %}{% block body %}
<h1>{{ title }}</h1>
<p>{{ introduction }}</p>
<table>
<tr><th>scan</th>{% for column in columns %}
<th><span class="swatch" style="background: {{ column.colour }}"></span>{{ column.name }}</th>
{% endfor %}</tr>
{% for case_id, scores in rows %}<tr><td>{{ case_id }}</td>
{% for score in scores %}<td class="number">{{ score }}</td>{% endfor %}</tr>{% endfor %}
<tr><th>mean</th>{% for mean in means %}<td class="number"><b>{{ mean }}</b></td>{% endfor %}</tr>
</table>
<p>Dice; {{ empty_rule }}.</p>
{% if curves %}<h2>Training</h2><img alt="training curves" src="data:image/png;base64,{{ curves }}">
{% endif %}
<h2>Slices</h2>
<p>Solid outlines are autoseg's, dashed ones the reference.</p>
{% for figure in figures %}<p><img alt="slices" src="data:image/png;base64,{{ figure }}"></p>
{% endfor %}{% endblock %}
"""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report shows; `names` gives each label value its class name."""

    title: str
    introduction: str
    evaluation: Evaluation
    names: dict[str, str]
    scans: Sequence[MosaicScan]
    curves: Path | None


def write_report(content: ReportContent, path: Path) -> None:
    """Write the page; figures are inside it, so that it can be sent to somebody."""
    values = list(content.evaluation.classes)
    numbers = [int(value) for value in values]
    page = {
        "title": content.title,
        "introduction": content.introduction,
        "columns": [
            {"name": content.names.get(value, value), "colour": colour_of(order)}
            for order, value in enumerate(values)
        ],
        "rows": [
            (case_id, [_number(scores[value]["dice"]) for value in values])
            for case_id, scores in content.evaluation.cases.items()
        ],
        "means": [_number(content.evaluation.classes[value]["dice"]) for value in values],
        "empty_rule": content.evaluation.empty_rule,
        "curves": encode_png(content.curves.read_bytes()) if content.curves else None,
        "figures": [encode_png(draw_mosaic(scan, numbers)) for scan in content.scans],
    }
    write_page(path, TEMPLATE, page)


def _number(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.3f}"  # noqa: RUF001
