"""Whether volumes agree: differences of prediction and reference against their mean."""

from autoseg.reporting.content import ReportContent, Scored
from autoseg.reporting.page import Section, fill
from autoseg.reporting.score_charts import CLASSES_IN_FIGURE, agreement_of, draw_agreement
from autoseg.reporting.tables import Cell, Table, head, number, words

TEMPLATE = """
<p>Each dot is a scan: the volume of the prediction less that of the reference, against the mean of
both (Bland and Altman 1986). The solid line is the mean difference, the bias; between the dashed
ones lie 95 % of differences where these are normally distributed.</p>
{% for name, png, rows, skipped in scored %}
<h3>{{ name }}</h3>
{{ figure(png, "differences of volumes of " ~ name ~ " against mean volumes, class by class") }}
{% if skipped %}<p>{{ skipped }} more classes are in the table alone.</p>{% endif %}
{{ table(rows) }}
{% endfor %}
"""


def volumes_section(content: ReportContent) -> Section | None:
    """Bland-Altman charts of all that was scored."""
    parts = []
    for scored in content.scored:
        agreements = agreement_of(scored)
        if agreements:
            skipped = max(0, len(agreements) - CLASSES_IN_FIGURE)
            parts.append((scored.name, draw_agreement(agreements), _table(scored), skipped))
    return Section("volumes", "Volumes", fill(TEMPLATE, scored=parts)) if parts else None


def _table(scored: Scored) -> Table:
    texts = (
        "scans",
        "mean of references (ml)",
        "bias (ml)",
        "lower limit (ml)",
        "upper limit (ml)",
    )
    body = [
        [
            Cell(agreement.name, colour=agreement.colour),
            number(len(agreement.difference_ml), ",d"),
            number(float(agreement.reference_ml.mean()), ".4g"),
            number(agreement.bias_ml, "+.3g"),
            number(agreement.limits_ml[0], "+.3g"),
            number(agreement.limits_ml[1], "+.3g"),
        ]
        for agreement in agreement_of(scored)
    ]
    return Table([words("class"), *(head(text) for text in texts)], body)
