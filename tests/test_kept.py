import os
from pathlib import Path

import pytest

from autoseg import kept
from autoseg.kept import keep, kept_path, recall


def test_what_is_kept_is_found_by_its_description(tmp_path: Path) -> None:
    path = kept_path(tmp_path / "new", "a network", ".way")
    assert recall(path) is None
    keep(path, b"fast")
    assert recall(kept_path(tmp_path / "new", "a network", ".way")) == b"fast"
    assert recall(kept_path(tmp_path / "new", "another", ".way")) is None


def test_nothing_is_kept_nowhere() -> None:
    keep(kept_path(None, "a network", ".way"), b"fast")
    assert recall(None) is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = kept_path(tmp_path / "file", "a network", ".way")
    keep(path, b"fast")
    assert recall(path) is None


def test_of_a_kind_the_last_used_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 2)
    for number, name in enumerate(("a.way", "b.way", "c.onnx")):
        keep(tmp_path / name, b"")
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    recall(tmp_path / "a.way")  # used again
    keep(tmp_path / "d.way", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"a.way", "d.way", "c.onnx"}
