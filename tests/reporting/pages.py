"""Reads pages of reports as browsers do, without one."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    def all(self, tag: str) -> list["Element"]:
        """Every element of a tag below this one, in order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += ([child] if child.tag == tag else []) + child.all(tag)
        return found

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"{tag}: an attribute twice"
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(html: str) -> Element:
    """The elements of a page. Raises AssertionError where one is not closed, or not in order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, f"{reader.open[-1].tag} is never closed"
    return reader.open[0]


def table_rows(table: Element) -> list[list[str]]:
    """The text of a table's body, row by row."""
    (body,) = table.all("tbody")
    return [[cell.text for cell in row.children if isinstance(cell, Element)]
            for row in body.all("tr")]  # fmt: skip


def assert_stands_on_its_own(html: str) -> None:
    """Nothing is loaded from anywhere, anchors lead somewhere, and tables have no holes."""
    page = read_page(html)
    elements = [e for tag in ("a", "h2", "section", "img", "div", "th") for e in page.all(tag)]
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert (link.attributes["href"] or "").removeprefix("#") in ids
    for picture in page.all("img"):
        assert (picture.attributes["src"] or "").startswith("data:image/png;base64,")
        assert picture.attributes["alt"]
    assert not page.all("link") and not page.all("iframe")
    for table in page.all("table"):
        rows = [row for part in ("tbody", "tfoot") for b in table.all(part) for row in b.all("tr")]
        widths = {len([c for c in row.children if isinstance(c, Element)]) for row in rows}
        heads = [row for head in table.all("thead") for row in head.all("tr")]
        if heads:
            widths.add(len([c for c in heads[-1].children if isinstance(c, Element)]))
        assert len(widths) <= 1, f"{table.text[:80]}: rows of {widths} cells"
