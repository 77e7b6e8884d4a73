"""Tables as data: what a cell says, and the number by which it is sorted."""

from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "\N{EN DASH}"
LONG = 25  # rows, beyond which a table is scrolled within its own frame


@dataclass(frozen=True, slots=True)
class Cell:
    """Text, and what it is sorted by if that is not its text: empty where it is missing."""

    text: str
    value: float | str | None = None
    number: bool = False
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below column heads; `groups` are titles over several columns and how many those are.

    `foot` stays below when rows are sorted.
    """

    heads: Sequence[Cell]
    body: Sequence[Sequence[Cell]]
    foot: Sequence[Sequence[Cell]] = ()
    groups: Sequence[tuple[str, int]] = ()
    caption: str = ""
    sorts: bool = True

    @property
    def is_long(self) -> bool:
        return len(self.body) > LONG


def words(text: str, colour: str | None = None) -> Cell:
    """A cell, or a column's head, of text."""
    return Cell(text, colour=colour)


def head(text: str, colour: str | None = None) -> Cell:
    """The head of a column of numbers."""
    return Cell(text, number=True, colour=colour)


def number(value: float | None, style: str = ".3f") -> Cell:
    """A number, as `style` formats it; a dash that is sorted last where there is none."""
    if value is None:
        return Cell(MISSING, "", number=True)
    return Cell(format(value, style), value, number=True)


def text_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], groups: Sequence[tuple[str, int]] = ()
) -> Table:
    """A table of ready text whose first column names things, and whose others are numbers."""
    return Table(
        heads=[words(heads[0]), *(head(title) for title in heads[1:])],
        body=[[words(row[0]), *(Cell(text, number=True) for text in row[1:])] for row in rows],
        groups=groups,
        sorts=False,
    )
