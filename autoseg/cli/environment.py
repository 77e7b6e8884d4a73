"""What autoseg takes from the environment: no other module looks there for settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoseg.pipeline.jobs import Rank


def cache_folder() -> Path:
    """Where compiled networks are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "autoseg"


def rank() -> "Rank":
    """Which process this is, as torchrun says in the environment."""
    from autoseg.pipeline.jobs import Rank

    names = ("rank", "world_size", "local_rank", "local_world_size")
    given = {name: os.environ.get(name.upper()) for name in names}
    return Rank(**{name: int(value) for name, value in given.items() if value is not None})
