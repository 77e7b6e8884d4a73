"""One HTML page of scores and pictures that stands on its own."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg import __version__
from autoseg.evaluation.evaluate import Evaluation
from autoseg.records import replacing
from autoseg.reporting.mosaic import COLOURS, MosaicScan, draw_mosaic

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { max-width: 100%; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
</style></head><body>
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
{% for picture in pictures %}<p><img alt="slices" src="data:image/png;base64,{{ picture }}"></p>
{% endfor %}
<p>autoseg {{ version }}</p>
</body></html>
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
    """Write the page; pictures are inside it, so that it can be sent to somebody."""
    from jinja2 import Environment

    values = list(content.evaluation.classes)
    page = Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        title=content.title,
        introduction=content.introduction,
        columns=[
            {"name": content.names.get(value, value), "colour": COLOURS[index % len(COLOURS)]}
            for index, value in enumerate(values)
        ],
        rows=[
            (case_id, [_number(scores[value].dice) for value in values])
            for case_id, scores in content.evaluation.cases.items()
        ],
        means=[_number(content.evaluation.classes[value].dice) for value in values],
        empty_rule=content.evaluation.empty_rule,
        curves=_encode(content.curves.read_bytes()) if content.curves else None,
        pictures=[
            _encode(draw_mosaic(scan, [int(value) for value in values])) for scan in content.scans
        ],
        version=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _number(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.3f}"  # noqa: RUF001


def _encode(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
