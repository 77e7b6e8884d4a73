"""What was asked, and the answer in a few numbers."""

from autoseg.reporting.content import ReportContent, Scored
from autoseg.reporting.page import Section, fill
from autoseg.reporting.sections.scores import dice_summary

TEMPLATE = """
<p>{{ asked }}</p>
{% if scored %}
<p>Answered by {{ scored.name }}, on {{ scored.what }}: the mean Dice of each
class{{ ", and its 95 % confidence interval" if intervals }}.</p>
<ul class="answers">{% for answer in answers %}
<li>{{ swatch(answer.colour) }}{{ answer.name }} <b>{{ answer.mean }}</b>
<span class="muted">{{ answer.interval }}</span></li>{% endfor %}</ul>
{% else %}
<p>Nothing has been scored yet.</p>
{% endif %}
{% if remarks %}<ul>{% for remark in remarks %}<li>{{ remark }}</li>{% endfor %}</ul>{% endif %}
"""


def summary_section(content: ReportContent) -> Section:
    """The question and, where there are scores, the Dice of each class."""
    scored = content.answer
    answers = [] if scored is None else _answers(scored)
    html = fill(
        TEMPLATE,
        asked=content.asked,
        scored=scored,
        answers=answers,
        intervals=any(answer["interval"] for answer in answers),
        remarks=content.remarks,
    )
    return Section("summary", "Summary", html)


def _answers(scored: Scored) -> list[dict[str, str]]:
    answers = []
    for key, colour in scored.class_colours().items():
        mean, interval = dice_summary(scored.evaluation, key)
        name = scored.class_name(key)
        answers.append({"name": name, "colour": colour, "mean": mean, "interval": interval})
    return answers
