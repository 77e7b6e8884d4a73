"""The import order of the design: data flows down this list, so imports point only up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "autoseg"

# Each entry may import those before it; rooms that share an entry never import each other.
LAYERS = [
    ["version", "quantities"],
    ["errors"],
    ["extensions"],
    ["records"],
    ["machine", "geometry", "kept"],
    ["neighbours"],
    ["parallel", "lease"],
    ["images"],
    ["dataset"],
    ["inspection"],
    ["planning"],
    ["preprocessing"],
    ["work_folder"],
    ["postprocessing"],
    ["device"],
    ["augmentation"],
    ["networks"],
    ["tasks"],
    ["checkpoint"],
    ["training", "inference"],
    ["evaluation"],
    ["reporting", "interop"],
    ["pipeline"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
TORCH_FREE = [room for rooms in LAYERS[: LEVEL["work_folder"] + 1] for room in rooms]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    return (module.split(".")[1:] or ["__init__"])[0]


def imports(tree: ast.AST, with_types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, those within functions too; what only a type checker reads on request."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for part in node.body if with_types else []:
                yield from imports(ast.Module([part], []), with_types)
            for part in node.orelse:
                yield from imports(ast.Module([part], []), with_types)
        else:
            yield from imports(node, with_types)


def imported_modules(module: str, source: str, with_types: bool = True) -> set[str]:
    """What a module imports: of `from a.b import c` it is a.b.c if that is a module, else a.b."""
    modules: set[str] = set()
    for node in imports(ast.parse(source), with_types):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
            continue
        assert node.level == 0 and node.module, f"{module}: relative import"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        modules |= {name if name in FILES else node.module for name in names}
    return modules


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: the graph's strongly connected components."""
    reached = {module: reachable(module, edges) for module in edges}
    groups = {
        tuple(sorted(other for other in there if module in reached.get(other, ())))
        for module, there in reached.items()
    }
    return sorted(list(group) for group in groups if group)


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        new = edges.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize("module", FILES)
def test_imports_point_only_up(module: str) -> None:
    here = room_of(module)
    for imported in imported_modules(module, FILES[module].read_text()):
        if imported.split(".")[0] == "autoseg":
            there = room_of(imported)
            allowed = there == here or LEVEL[there] < LEVEL[here]
            assert allowed, f"{module} ({here}) imports {imported}"


@pytest.mark.parametrize("module", FILES)
def test_rooms_up_to_preprocessing_import_no_torch(module: str) -> None:
    if room_of(module) in TORCH_FREE:
        imported = imported_modules(module, FILES[module].read_text())
        assert "torch" not in {name.split(".")[0] for name in imported}


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in FILES} == set(LEVEL)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports that only a type checker reads do not count: nothing runs in their order."""
    edges = {
        module: imported_modules(module, path.read_text(), with_types=False)
        for module, path in FILES.items()
    }
    assert circles(edges) == []


def test_a_circle_through_an_import_within_a_function_is_found() -> None:
    late = "def f():\n    from autoseg import errors\n"
    typed = "if TYPE_CHECKING:\n    import autoseg.records\nelse:\n    import autoseg.geometry\n"
    edges = {
        "autoseg.errors": imported_modules("a", "import autoseg.records as r"),
        "autoseg.records": imported_modules("b", late),
        "autoseg.geometry": imported_modules("c", typed, with_types=False),
    }
    assert edges["autoseg.geometry"] == {"autoseg.geometry"}
    assert circles(edges | {"autoseg.geometry": {"autoseg.records"}}) == [
        ["autoseg.errors", "autoseg.records"]
    ]
    assert imported_modules("d", typed) == {"autoseg.records", "autoseg.geometry"}
