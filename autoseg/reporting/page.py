"""HTML pages that stand on their own: figures are inside, and nothing is loaded.

A page is a list of sections. The one script that runs sorts tables and opens what is folded for
printing; the page reads the same without it.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.records import replacing
from autoseg.reporting.style import PAGE, PARTS, SCRIPT
from autoseg.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

USES_PARTS = '{% from "parts" import figure, table, swatch, legend with context %}'

WIDTH_AT = 16  # bytes from the beginning of a PNG


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: `name` is its anchor, `html` what stands below its title."""

    name: str
    title: str
    html: "Markup"


def fill(template: str, **values: Any) -> "Markup":
    """HTML of a template, every value escaped; it may use the macros of `parts`."""
    from markupsafe import Markup

    return Markup(_environment().from_string(USES_PARTS + template).render(values))


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write sections below a title and a list of them."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    html = (
        _environment()
        .from_string(PAGE)
        .render(
            title=title,
            sections=sections,
            script=SCRIPT,
            script_hash=digest,
            version=__version__,
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, synced=False) as temporary:
        # Names of files need not be text; what is none becomes a question mark.
        temporary.write_text(html, encoding="utf-8", errors="replace")


def encode_png(png: bytes) -> str:
    """A PNG as the base64 text of a data URI."""
    return base64.b64encode(png).decode("ascii")


def shown_px(png: bytes, density: float) -> int:
    """How wide a picture is shown: its own width, which its header states, over a density."""
    return round(int.from_bytes(png[WIDTH_AT:][:4], "big") / density)


@cache
def _environment() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"parts": PARTS}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = encode_png
    environment.filters["shown_px"] = shown_px
    return environment
