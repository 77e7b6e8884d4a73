"""Where all of it came from: machine, versions, and hashes of data and models."""

from autoseg.reporting.content import ReportContent
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Table, words

TEMPLATE = """
<table class="plain">{% for name, value in rows %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% if models.body %}<h3>Models</h3>{{ table(models) }}{% endif %}
"""


def origins_section(content: ReportContent) -> Section:
    """Everything that is needed to say whether two results were made alike."""
    heads = [words(text) for text in ("configuration", "fold", "blake2b of the file", "autoseg")]
    models = [
        [words(text) for text in (f.configuration, f.fold, f.model_hash, f.made_with or "")]
        for f in content.folds
        if f.model_hash is not None
    ]
    html = fill(TEMPLATE, rows=content.made_on, models=Table(heads, models))
    return Section("origins", "Machine and versions", html)
