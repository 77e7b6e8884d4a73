"""How well `predict` can tell that a mask is bad, class by class."""

from collections.abc import Sequence

from autoseg.postprocessing.quality import EXPECTED_SHARE, ClassQuality
from autoseg.reporting.content import ReportContent
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Cell, Table, head, number, words

TEMPLATE = """
<p>From how sure the networks are, <code>autoseg predict</code> estimates the Dice of masks that
have no reference. The table says how far such estimates were off for held-out cases, each by a line
that was fitted to the other {{ "folds" if folds > 1 else "cases" }}: for scans as they are, and for
copies that were spoilt by noise, blur, another contrast, or missing slices. Estimates are of masks
before post-processing.</p>
{{ table(rows) }}
<p>Nine of ten: where the estimate is the usual Dice, the true Dice of nine of ten masks lay between
these, spoilt copies included. A mask is warned of where its estimate is below the bound, as it is
for one of twenty held-out cases, or where a class is missing that at least {{ expected }} of them
have. Masks of scans that differ more than those copies, such as of inverted contrast or with wrong
voxel sizes, are far worse than estimated. Lines are learned from masks by the models of one fold,
and used for those of all folds together.</p>
"""


def failure_signs_section(content: ReportContent) -> Section | None:
    """Errors of estimates of Dice, and what is usual; nothing where too few cases told."""
    quality = None if content.selected is None else content.selected.selection.quality
    if quality is None:
        return None
    html = fill(
        TEMPLATE,
        rows=_table(quality.classes),
        folds=quality.folds,
        expected=f"{EXPECTED_SHARE:.0%}",
    )
    return Section("failure-signs", "Failure signs", html)


def _table(classes: Sequence[ClassQuality]) -> Table:
    texts = ("cases", "have it", "usual Dice", "nine of ten", "error", "error, spoilt copies",
             "warned below")  # fmt: skip
    body = []
    for quality in classes:
        low, high = quality.interval(quality.usual).tolist()
        body.append(
            [
                words(quality.name),
                number(quality.cases, ",d"),
                number(quality.present_share, ".0%"),
                number(quality.usual),
                Cell(f"{low:.3f} to {high:.3f}", low, number=True),
                number(quality.error),
                number(quality.error_spoilt),
                number(quality.doubtful_below),
            ]
        )
    return Table([words("class"), *(head(text) for text in texts)], body)
