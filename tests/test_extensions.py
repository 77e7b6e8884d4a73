from importlib.metadata import EntryPoint

import pytest

from autoseg import extensions
from autoseg.errors import AutosegError
from autoseg.extensions import extension_names, load_extension

ADDED = [EntryPoint(name, "math:pi", "autoseg.losses") for name in ("mine", "a_loss")]


def test_what_packages_add_is_listed_and_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda group: ADDED)
    assert extension_names("autoseg.losses") == ("a_loss", "mine")
    assert load_extension("autoseg.losses", "mine") == pytest.approx(3.14159, abs=1e-4)


def test_a_name_that_nobody_added_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda group: ADDED)
    with pytest.raises(AutosegError, match=r"'yours' is neither built in .*\(a_loss, mine\)"):
        load_extension("autoseg.losses", "yours")
