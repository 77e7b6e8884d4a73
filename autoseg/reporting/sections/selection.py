"""What was selected among configurations and their ensembles, at what cost, and what it gained."""

from autoseg.evaluation.selection_record import Selection
from autoseg.reporting.content import ReportContent
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Cell, Table, head, number, words

TEMPLATE = """
{% if changed %}<p class="warning">This selection is of other models than those that are there now,
so it is not followed; run <code>autoseg select</code> again.</p>
<ul>{% for change in changed %}<li>{{ change }}</li>{% endfor %}</ul>{% endif %}
<p><b>{{ chosen }}</b>: {{ selection.because }}.</p>
{{ table(candidates) }}
<h3>Post-processing</h3>
<p>{{ corrected.because[:1]|upper }}{{ corrected.because[1:] }}.</p>
{% if steps.body %}{{ table(steps) }}{% endif %}
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endif %}
"""


def selection_section(content: ReportContent) -> Section | None:
    """Candidates with their scores and costs, and steps of post-processing with their gains."""
    if content.selected is None:
        return None
    selection = content.selected.selection
    corrected = selection.postprocessing
    steps = [[words(step.what), number(step.gain, "+.4f")] for step in corrected.steps]
    html = fill(
        TEMPLATE,
        changed=content.selected.changed,
        chosen=" + ".join(selection.recipe.members),
        selection=selection,
        candidates=_candidates(selection),
        corrected=corrected,
        steps=Table([words("step"), head("gain")], steps, sorts=False),
        notes=[*corrected.left_off, *selection.notes],
    )
    return Section("selection", "Selection", html)


def _candidates(selection: Selection) -> Table:
    texts = (f"mean {selection.metric}", "behind the best", "seconds a scan and fold")
    body = []
    for candidate in selection.candidates:
        low, high = candidate.interval.low, candidate.interval.high
        score = f"{candidate.score:.4f} [{low:.4f}, {high:.4f}]"
        is_chosen = candidate.members == selection.recipe.members
        body.append(
            [
                words(f"{candidate.name} (chosen)" if is_chosen else candidate.name),
                Cell(score, candidate.score, number=True),
                number(candidate.gap, ".4f"),
                number(candidate.seconds, ".2f"),
            ]
        )
    return Table([words("candidate"), *(head(text) for text in texts)], body)
