"""The plan: what was chosen, in every configuration, and why."""

from autoseg.reporting.content import ReportContent
from autoseg.reporting.dataset_tables import configuration_rows, reasons, stage_rows
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import text_table

CHOICES = """
<div class="wide"><table class="plain">
<thead><tr><td></td>{% for name in configurations %}
<th scope="col"{% if name == recommended %} class="chosen"{% endif %}>
{{ name }}{{ " (recommended)" if name == recommended }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}
<td{% if configurations[loop.index0] == recommended %} class="chosen"{% endif %}>{{ cell }}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table></div>
{% for name, rows in stages %}<details><summary>Network of {{ name }}, stage by stage</summary>
{{ table(rows) }}</details>
{% endfor %}
"""

REASONS = """
<p>Every decision, its reason, and on opening it the facts it looked at, its rule and source.</p>
{% for title, decisions in groups %}
<details{{ " open" if loop.index <= 2 }}><summary><b>For {{ title }}</b>
({{ decisions|length }} decisions)</summary><div>
{% for reason in decisions %}<details><summary><b>{{ reason.name }}</b>
<code>{{ reason.brief }}</code><span class="muted">{{ reason.because }}</span></summary>
<table class="plain">
<tr><th scope="row">rule</th><td><code>{{ reason.rule_id }}</code></td></tr>
<tr><th scope="row">source</th><td>{{ reason.source }}</td></tr>
{% for name, fact in reason.facts %}<tr><th scope="row">{{ name }}</th><td>{{ fact }}</td></tr>
{% endfor %}</table>
{% if reason.full %}<pre>{{ reason.full }}</pre>{% endif %}</details>
{% endfor %}</div></details>{% endfor %}
"""

STAGE_HEADS = (
    "stage",
    "features",
    "kernel",
    "stride",
    "spacing (mm)",
    "encoder blocks",
    "decoder blocks",
)


def choices_section(content: ReportContent) -> Section:
    """What was chosen in every configuration."""
    plan = content.plan
    html = fill(
        CHOICES,
        recommended=plan.recommended,
        configurations=list(plan.configurations),
        rows=configuration_rows(plan),
        stages=[
            (c.name, text_table(STAGE_HEADS, stage_rows(c))) for c in plan.configurations.values()
        ],
    )
    return Section("plan", "Plan", html)


def reasons_section(content: ReportContent) -> Section:
    """Every decision with its rule, its reason, and where that comes from."""
    return Section("reasons", "Reasons", fill(REASONS, groups=reasons(content.plan)))
