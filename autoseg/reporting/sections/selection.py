"""What was selected among configurations and their ensembles, at what cost, and what it gained."""

from autoseg.reporting.content import ReportContent, SelectionContent
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Cell, Table, head, number, words

TEMPLATE = """
<p><b>{{ selection.chosen }}</b>: {{ selection.because }}.</p>
{{ table(candidates) }}
<h3>Post-processing</h3>
<p>{{ selection.postprocessing[:1]|upper }}{{ selection.postprocessing[1:] }}.</p>
{% if steps.body %}{{ table(steps) }}{% endif %}
{% if selection.notes %}<ul>{% for note in selection.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endif %}
"""


def selection_section(content: ReportContent) -> Section | None:
    """Candidates with their scores and costs, and steps of post-processing with their gains."""
    selection = content.selection
    if selection is None:
        return None
    steps = [[words(what), number(gain, "+.4f")] for what, gain in selection.steps]
    html = fill(
        TEMPLATE,
        selection=selection,
        candidates=_candidates(selection),
        steps=Table([words("step"), head("gain")], steps, sorts=False),
    )
    return Section("selection", "Selection", html)


def _candidates(selection: SelectionContent) -> Table:
    texts = (f"mean {selection.metric}", "behind the best", "seconds a scan and fold")
    body = []
    for candidate in selection.candidates:
        low, high = candidate.interval
        score = f"{candidate.score:.4f} [{low:.4f}, {high:.4f}]"
        name = (
            f"{candidate.name} (chosen)" if candidate.name == selection.chosen else candidate.name
        )
        body.append(
            [
                words(name),
                Cell(score, candidate.score, number=True),
                number(candidate.gap, ".4f"),
                number(candidate.seconds, ".2f"),
            ]
        )
    return Table([words("candidate"), *(head(text) for text in texts)], body)
