"""Whether probabilities are what they say: how often a class is where it has some probability."""

from collections.abc import Sequence

from autoseg.evaluation.calibration import BINS, Reliability
from autoseg.reporting.charts import colour_of
from autoseg.reporting.content import ReportContent
from autoseg.reporting.page import Section, fill
from autoseg.reporting.score_charts import CLASSES_IN_FIGURE, draw_reliability
from autoseg.reporting.tables import Cell, Table, head, number, words

TEMPLATE = """
<p>Of what was selected, over {{ cases }} held-out cases: voxels are grouped by their probability of
a class into {{ bins }} bins of equal width, and each dot says in what share of a bin's voxels the
class really is. On the dashed line probabilities are what they say; below it, networks are too sure
of themselves. Grey bars say how many voxels a bin has, on a log scale.</p>
{{ figure(png, "share of voxels that have a class against its predicted probability, by class") }}
{% if skipped %}<p>{{ skipped }} more classes are in the table alone.</p>{% endif %}
{{ table(rows) }}
<p>ECE, the expected calibration error, is the mean distance of the dots from the line, each
weighted by its voxels (Naeini 2015). All annotated voxels count whose probability is above the
lowest bin; of that bin, only those in the box that holds the class in the reference, since the
background of a scan, of which every network is sure, would hide all else.</p>
"""


def reliability_section(content: ReportContent) -> Section | None:
    """A reliability diagram of each class with its calibration error."""
    if content.selected is None:
        return None
    selection = content.selected.selection
    counted = [(i, one) for i, one in enumerate(selection.reliability) if any(one.voxels)]
    if not counted:
        return None
    html = fill(
        TEMPLATE,
        cases=selection.cases,
        bins=BINS,
        png=draw_reliability(counted),
        skipped=max(0, len(counted) - CLASSES_IN_FIGURE),
        rows=_table(counted),
    )
    return Section("reliability", "Reliability", html)


def _table(counted: Sequence[tuple[int, Reliability]]) -> Table:
    texts = ("voxels", "mean probability", "share with the class", "ECE")
    body = []
    for order, one in counted:
        voxels, probability, with_class = one.counts.sum(axis=1).tolist()
        body.append(
            [
                Cell(one.name, colour=colour_of(order)),
                number(voxels, ",.0f"),
                number(probability / voxels),
                number(with_class / voxels),
                number(one.calibration_error, ".4f"),
            ]
        )
    return Table([words("class"), *(head(text) for text in texts)], body)
