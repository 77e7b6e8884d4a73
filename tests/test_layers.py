"""The import order of the design: data flows down this list, so imports point only up."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "autoseg"

# Each entry may import those before it; rooms that share an entry never import each other.
LAYERS = [
    ["__init__"],
    ["errors"],
    ["extensions"],
    ["records"],
    ["machine", "geometry"],
    ["parallel"],
    ["images"],
    ["dataset"],
    ["inspection"],
    ["planning"],
    ["preprocessing"],
    ["postprocessing"],
    ["device"],
    ["networks"],
    ["tasks", "augmentation"],
    ["checkpoint"],
    ["training", "inference"],
    ["evaluation"],
    ["reporting", "interop"],
    ["work_folder"],
    ["pipeline"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
TORCH_FREE = [room for rooms in LAYERS[: LEVEL["preprocessing"] + 1] for room in rooms]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.add(node.module or "")
            if node.module == "autoseg":
                modules |= {f"autoseg.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_point_only_up(path: Path) -> None:
    here = room_of(path)
    for module in imported_modules(path):
        if module.startswith("autoseg."):
            there = module.split(".")[1]
            allowed = there == here or LEVEL.get(there, 0) < LEVEL[here]
            assert allowed, f"{path} ({here}) imports {module}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_rooms_up_to_preprocessing_import_no_torch(path: Path) -> None:
    if room_of(path) in TORCH_FREE:
        assert "torch" not in {module.split(".")[0] for module in imported_modules(path)}


def test_every_room_has_its_place() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms == set(LEVEL)
