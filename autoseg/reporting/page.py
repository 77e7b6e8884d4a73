"""HTML pages that stand on their own: figures are inside, and nothing is loaded or run."""

import base64
from pathlib import Path
from typing import Any

from autoseg.records import replacing
from autoseg.version import __version__

# The policy keeps browsers from running or fetching anything, whatever names a dataset has.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: {{ width }};
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
th { text-align: left; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
{% block style %}{% endblock %}
</style></head><body>
{% block body %}{% endblock %}
<p>autoseg {{ version }}</p>
</body></html>
"""


def write_page(path: Path, template: str, values: dict[str, Any], width: str = "60rem") -> None:
    """Fill in a template that extends `page` and write it, every value escaped; needs a `title`."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"page": PAGE}), autoescape=True, undefined=StrictUndefined
    )
    html = environment.from_string(template).render(values, width=width, version=__version__)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, synced=False) as temporary:
        # Names of files need not be text; what is none becomes a question mark.
        temporary.write_text(html, encoding="utf-8", errors="replace")


def encode_png(png: bytes) -> str:
    """A PNG as the base64 text of a data URI."""
    return base64.b64encode(png).decode("ascii")
