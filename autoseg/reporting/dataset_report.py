"""One HTML page that shows a dataset, what was planned for it, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.problems import Problem
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.plan import Plan
from autoseg.reporting.charts import colour_of
from autoseg.reporting.dataset_charts import (
    CHANNELS_DRAWN,
    draw_classes,
    draw_grids,
    draw_intensities,
    drawn_classes,
    planned_grids,
)
from autoseg.reporting.dataset_tables import (
    channel_rows,
    class_rows,
    configuration_rows,
    grid_rows,
    overview,
    problem_rows,
    reasons,
    stage_rows,
)
from autoseg.reporting.examples import ExampleSlice, draw_examples, visible_classes
from autoseg.reporting.page import encode_png, write_page

TEMPLATE = """{% extends "page" %}
{% macro figure(png, alt) %}<p><img alt="{{ alt }}" src="data:image/png;base64,{{ png }}"></p>
{% endmacro %}
{% macro cells(row) %}<td>{{ row[0] }}</td>
{% for cell in row[1:] %}<td class="number">{{ cell }}</td>{% endfor %}{% endmacro %}
{% block style %}
h2 { margin-top: 2.5rem; border-bottom: 2px solid #1a1a1a; } h3 { margin-top: 1.8rem; }
nav a { margin-right: 1.2rem; } .wide { overflow-x: auto; } .muted { color: #666; }
summary { cursor: pointer; padding: .15rem 0; } summary code { margin: 0 .6rem; }
details > :not(summary) { margin-left: 1.2rem; } pre { font-size: 13px; }
td.swatched { white-space: nowrap; } td.error, td.warning { font-weight: bold; }
td.chosen, th.chosen { background: #eaf3fa; }
.overview th, .choices th { white-space: nowrap; vertical-align: top; }
{% endblock %}
{% block body %}
<h1>{{ title }}</h1>
<nav><a href="#seen">What was seen</a><a href="#chosen">What was chosen</a>
<a href="#reasons">Why</a><a href="#problems">Problems ({{ problems|length }})</a></nav>

<h2 id="seen">What was seen</h2>
<table class="overview">{% for name, value in overview %}
<tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table>

<h3>Voxel grids</h3>
<p>Each dot is a scan{% if single_slices %}; of single slices only the plane is shown{% endif %};
on the grey diagonal voxels are isotropic. Sizes are those of the box around non-zero voxels, along
the plan's axes. Patches count voxels of the plan's grid, so that in mm they compare with scans of
any spacing.
{% if skipped_configurations %}Not drawn, for they order axes otherwise or share another's grid:
{{ skipped_configurations|join(", ") }}.{% endif %}</p>
{{ figure(grid_figure, "spacing and size of all scans, with target spacings and patches") }}
<div class="wide"><table>
<tr><th></th><th class="number" colspan="3">spacing (mm)</th>
<th class="number" colspan="3">size (voxels)</th><th class="number" colspan="3">size (mm)</th></tr>
<tr><th>axis</th>{% for _ in range(3) %}<th class="number">min</th><th class="number">median</th>
<th class="number">max</th>{% endfor %}</tr>
{% for row in grid_rows %}<tr>{{ cells(row) }}</tr>{% endfor %}</table></div>

<h3>Intensities</h3>
<p>{% if has_histograms %}Histograms of each class over the background (grey), every one scaled to
its own height; dashed lines mark the foreground's percentiles 0.5 and 99.5, to which the
normalisation <i>ct</i> clips. {% else %}This fingerprint holds no histograms. {% endif %}
The foreground of each scan is a line from its percentile 0.5 to 99.5, with a dot at the median:
scanners whose scales differ show as steps.
{% if skipped_channels %}Not drawn: {{ skipped_channels|join(", ") }}.{% endif %}</p>
{% for png in intensity_figures %}{{ figure(png, "intensity histograms") }}{% endfor %}
<div class="wide"><table>
<tr><th>channel</th><th class="number">normalisation</th><th class="number">min</th>
<th class="number">0.5 %</th><th class="number">median</th><th class="number">99.5 %</th>
<th class="number">max</th><th class="number">mean</th><th class="number">std</th></tr>
{% for row in channel_rows %}<tr>{{ cells(row) }}</tr>{% endfor %}</table></div>
<p class="muted">Intensities of the foreground, in the scans' own units; scans weigh equally.</p>

<h3>Classes</h3>
{{ figure(class_figure, "share of the image, component volumes and share of cases by class") }}
{% if skipped_classes %}<details><summary>Drawn are the {{ drawn_count }} rarest classes;
{{ skipped_classes|length }} others are more common</summary>
<p>{{ skipped_classes|join(", ") }}</p></details>{% endif %}
<div class="wide"><table>
<tr><th></th><th></th><th class="number" colspan="3">share of (%)</th><th class="number"></th>
<th class="number" colspan="3">volume of components (mm³)</th></tr>
<tr><th>value</th><th>class</th><th class="number">image</th><th class="number">foreground</th>
<th class="number">scans</th><th class="number">components a scan</th><th class="number">5 %</th>
<th class="number">median</th><th class="number">95 %</th></tr>
{% for colour, row in class_rows %}<tr><td class="swatched">
<span class="swatch" style="background: {{ colour }}"></span>{{ row[0] }}</td>
{{ cells(row[1:]) }}</tr>{% endfor %}</table></div>

{% if example_figure %}<h3>Examples</h3>
<p>The slice with most foreground of the scans with the least, median and most of it, without and
with outlines:
{% for colour, name in visible %}<span class="swatch" style="background: {{ colour }}"></span>
{{- name }}{{ ", " if not loop.last else "." }} {% endfor %}</p>
{{ figure(example_figure, "example slices with outlines of the classes") }}{% endif %}

<h2 id="chosen">What was chosen</h2>
<div class="wide"><table class="choices">
<tr><th></th>{% for name in configurations %}<th class="{{ 'chosen' if name == recommended }}">
{{ name }}{{ " (recommended)" if name == recommended }}</th>{% endfor %}</tr>
{% for row in configuration_rows %}<tr><th>{{ row[0] }}</th>
{% for cell in row[1:] %}<td class="{{ 'chosen' if configurations[loop.index0] == recommended }}">
{{- cell }}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% for name, rows in stages %}<details><summary>Network of {{ name }}, stage by stage</summary>
<table><tr><th>stage</th><th class="number">features</th><th class="number">kernel</th>
<th class="number">stride</th><th class="number">spacing (mm)</th>
<th class="number">encoder blocks</th><th class="number">decoder blocks</th></tr>
{% for row in rows %}<tr>{{ cells(row) }}</tr>{% endfor %}</table></details>
{% endfor %}

<h2 id="reasons">Why</h2>
<p>Every decision, its reason, and on opening it the facts it looked at, its rule and source.</p>
{% for title, decisions in reasons %}
<details{{ " open" if loop.index <= 2 }}><summary><b>For {{ title }}</b>
({{ decisions|length }} decisions)</summary><div>
{% for reason in decisions %}<details><summary><b>{{ reason.name }}</b>
<code>{{ reason.brief }}</code><span class="muted">{{ reason.because }}</span></summary>
<table>
<tr><th>rule</th><td><code>{{ reason.rule_id }}</code></td></tr>
<tr><th>source</th><td>{{ reason.source }}</td></tr>
{% for name, fact in reason.facts %}<tr><th>{{ name }}</th><td>{{ fact }}</td></tr>
{% endfor %}</table>
{% if reason.full %}<pre>{{ reason.full }}</pre>{% endif %}</details>
{% endfor %}</div></details>{% endfor %}

<h2 id="problems">Problems</h2>
{% if problems %}<div class="wide"><table><tr><th></th><th>case</th><th>file</th>
<th>what is wrong</th><th>how to fix it</th></tr>
{% for row in problems %}<tr><td class="{{ row[0] }}">{{ row[0] }}</td>
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% else %}<p>Nothing is wrong with the files.</p>{% endif %}
{% endblock %}
"""


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What the page shows; `examples` may be empty."""

    title: str
    plan: Plan
    fingerprint: Fingerprint
    problems: Sequence[Problem]
    examples: tuple[ExampleSlice, ...]


def write_dataset_report(content: DatasetReport, path: Path) -> None:
    """Write the page; figures are inside it, so that it can be sent to somebody."""
    plan = content.plan
    values = {
        "title": content.title,
        "overview": overview(plan, content.fingerprint),
        "problems": problem_rows(content.problems),
        "recommended": plan.recommended,
        "configurations": list(plan.configurations),
        "configuration_rows": configuration_rows(plan),
        "stages": [(c.name, stage_rows(c)) for c in plan.configurations.values()],
        "reasons": reasons(plan),
        **_seen(plan, content.fingerprint),
        **_example_values(content),
    }
    write_page(path, TEMPLATE, values, width="1160px")


def _seen(plan: Plan, fingerprint: Fingerprint) -> dict[str, Any]:
    """Charts and tables of the data."""
    grids = planned_grids(plan, fingerprint)
    chosen = plan.configuration(None)
    drawn = drawn_classes(fingerprint)
    intensities = draw_intensities(fingerprint, chosen.grid.normalization)
    drawn_configurations = [c.name for c in grids.configurations]
    return {
        "grid_figure": encode_png(draw_grids(grids)),
        "grid_rows": grid_rows(grids),
        "single_slices": any(1 in case.shape_vox for case in fingerprint.cases),
        "skipped_configurations": [n for n in plan.configurations if n not in drawn_configurations],
        "intensity_figures": [encode_png(png) for png in intensities],
        "has_histograms": bool(fingerprint.histogram_edges),
        "skipped_channels": fingerprint.channel_names[CHANNELS_DRAWN:],
        "channel_rows": channel_rows(chosen),
        "class_figure": encode_png(draw_classes(fingerprint)),
        "class_rows": class_rows(fingerprint),
        "drawn_count": len(drawn),
        "skipped_classes": [c.name for c in fingerprint.classes if c not in drawn],
    }


def _example_values(content: DatasetReport) -> dict[str, Any]:
    if not content.examples:
        return {"example_figure": None, "visible": []}
    labels = content.fingerprint.labels
    channels = content.plan.configuration(None).grid.normalization
    return {
        "example_figure": encode_png(draw_examples(content.examples, channels, labels)),
        "visible": [
            (colour_of(index - 1), labels.names[index])
            for index in visible_classes(content.examples)
        ],
    }
