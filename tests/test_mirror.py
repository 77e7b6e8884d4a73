"""Tests mirror the tree, and every room says how to read it.

A module autoseg/room/name.py has tests/room/test_name.py, or is named in a line such as
"Covers: name, layouts.other, planning.cost." of a test file's docstring. Such names are of modules
in the test's own room, or else of autoseg.
"""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "autoseg"
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
}
TEST_FILES = sorted(TESTS.rglob("test_*.py"))
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
# The public face, the command, and tables of the design; every other __init__ is a docstring.
TABLES = ("networks", "tasks", "inference/engines")
WITH_CODE = {PACKAGE, PACKAGE / "cli", *(PACKAGE / table for table in TABLES)}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def named_in(text: str) -> list[str]:
    """The names of a docstring's last paragraph, if it begins with "Covers:"."""
    found = re.fullmatch(r"Covers: ([a-z0-9_.,\s]+)\.", text.split("\n\n")[-1])
    return re.split(r",\s+", found[1]) if found else []


def modules_covered_by(path: Path) -> set[str]:
    """Raises AssertionError where a name is of no module."""
    room = path.relative_to(TESTS).parent.parts
    mirrored = ".".join((*room, path.stem.removeprefix("test_")))
    covered = {mirrored} & MODULES
    for name in named_in(docstring(path)):
        meant = {".".join((*room, name)), name} & MODULES
        assert meant, f"{path} says that it covers {name}, but there is no such module"
        covered |= meant
    return covered


def test_every_module_has_its_tests() -> None:
    covered = {module for path in TEST_FILES for module in modules_covered_by(path)}
    assert sorted(MODULES - covered) == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.name))
def test_every_room_says_how_to_read_its_modules(room: Path) -> None:
    text = docstring(room / "__init__.py")
    assert len(text.splitlines()) >= 3
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    code = ast.parse((room / "__init__.py").read_text()).body[1:]
    assert not code or room in WITH_CODE
    if room != PACKAGE:
        assert sorted(name for name in modules if f"`{name}`" not in text) == []


def test_names_are_read_from_the_last_paragraph_alone() -> None:
    assert named_in("Covers: raw, layouts.msd,\nplanning.cost.") == [
        "raw", "layouts.msd", "planning.cost",
    ]  # fmt: skip
    assert named_in("One thing.\n\nCovers: raw.") == ["raw"]
    assert named_in("Covers: raw.\n\nAnother thing.") == []
