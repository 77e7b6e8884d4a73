"""What other packages add by Python entry points: networks and losses, by name.

A package says, in its pyproject.toml:

    [project.entry-points."autoseg.networks"]
    my_network = "my_package.networks:build"
"""

from importlib.metadata import entry_points
from typing import Any, Literal

from autoseg.errors import AutosegError

Group = Literal["autoseg.networks", "autoseg.losses"]


def extension_names(group: Group) -> tuple[str, ...]:
    """The names that installed packages add; nothing of theirs is imported."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def load_extension(group: Group, name: str) -> Any:
    """What a package registered under a name. Raises AutosegError when none did."""
    for point in entry_points(group=group):
        if point.name == name:
            return point.load()
    raise AutosegError(
        f"{name!r} is neither built in nor among what is installed for {group} "
        f"({', '.join(extension_names(group)) or 'nothing'}). Install the package that has it."
    )
