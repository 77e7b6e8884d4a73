import tomllib
from pathlib import Path

import pytest

import autoseg
from autoseg.cli import main
from autoseg.version import __version__

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def test_the_command_says_the_version_of_the_one_file_that_states_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"autoseg {__version__}\n"
    assert autoseg.__version__ == __version__


def test_the_packages_metadata_take_the_version_from_there() -> None:
    content = tomllib.loads(PROJECT.read_text())
    assert "version" not in content["project"]
    assert content["tool"]["hatch"]["version"]["path"] == "autoseg/version.py"
