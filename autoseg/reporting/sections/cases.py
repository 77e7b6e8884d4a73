"""Case by case: a table of all, and pictures of the best, the median and the worst."""

from autoseg.reporting.content import ReportContent, Scored
from autoseg.reporting.mosaic import draw_mosaic
from autoseg.reporting.page import Section, fill
from autoseg.reporting.ranking import mean_dice
from autoseg.reporting.tables import Table, head, number, words

CASES = """
<p>Worst first; a click on a column's title sorts by it. {{ rule }}</p>
{% for name, rows in scored %}
<h3>{{ name }}</h3>
{{ table(rows) }}
{% endfor %}
"""

PICTURES = """
<p>Slices spread over what is labelled. Outlines of predictions are solid, those of references
dotted.</p>
{% for scored, pngs in parts %}
<h3>{{ scored.name }}</h3>
{{ legend(scored.legend()) }}
{% for title, png in pngs %}
{{ figure(png, "slices of " ~ title ~ " with outlines of prediction and reference", title, 1) }}
{% endfor %}
{% if scored.remark %}<p>{{ scored.remark }}</p>{% endif %}
{% endfor %}
"""

CLASSES_LISTED = 30


def cases_section(content: ReportContent) -> Section | None:
    """The Dice of every class of every case that was scored."""
    if not content.scored:
        return None
    (rule,) = {scored.evaluation.empty_rule for scored in content.scored} or {""}
    rows = [(scored.name, _table(scored)) for scored in content.scored]
    return Section(
        "cases", "Cases", fill(CASES, scored=rows, rule=f"{rule[:1].upper()}{rule[1:]}.")
    )


def pictures_section(content: ReportContent) -> Section | None:
    """Mosaics of all that was scored, as far as scans are there."""
    parts = [
        (scored, [(scan.title, draw_mosaic(scan)) for scan in scored.mosaics])
        for scored in content.scored
        if scored.mosaics or scored.remark
    ]
    return Section("pictures", "Pictures", fill(PICTURES, parts=parts)) if parts else None


def _table(scored: Scored) -> Table:
    evaluation = scored.evaluation
    keys = list(evaluation.classes)[:CLASSES_LISTED]
    colours = scored.class_colours()
    heads = [words("case"), head("mean Dice")]
    heads += [head(scored.class_name(key), colours[key]) for key in keys]
    body = []
    for case_id in sorted(evaluation.cases, key=lambda c: mean_dice(evaluation, c) or 0.0):
        scores = evaluation.cases[case_id]
        dice = [number(scores[key].get("dice")) for key in keys]
        body.append([words(case_id), number(mean_dice(evaluation, case_id)), *dice])
    left_out = len(evaluation.classes) - len(keys)
    caption = f"{left_out} more classes count in the mean alone." if left_out else ""
    return Table(heads, body, caption=caption)
