import os
import subprocess
import sys
from pathlib import Path
from stat import S_ISDIR

import pytest

from autoseg.errors import AutosegError
from autoseg.records import Record, load_record, replacing, save_record


class Point(Record):
    x_mm: float
    tags: tuple[str, ...] = ()


def test_a_saved_record_reads_back_equal(tmp_path: Path) -> None:
    point = Point(x_mm=1.5, tags=("a", "b"))
    save_record(point, tmp_path / "deep" / "point.json")
    assert load_record(Point, tmp_path / "deep" / "point.json") == point


def test_all_wrong_keys_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_text('{"x_mm": "far", "y_mm": 2}')
    with pytest.raises(AutosegError, match=r"(?s)x_mm.*y_mm"):
        load_record(Point, path)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_text("{")
    with pytest.raises(AutosegError, match=r"point\.json: not valid JSON"):
        load_record(Point, path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from autoseg.records import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    dead, alive = (
        subprocess.Popen([*command, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("dead.txt", "alive.txt")
    )
    for process in (dead, alive):
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
    dead.kill()
    dead.wait()
    with replacing(tmp_path / "mine.txt") as temporary:
        temporary.write_text("whole")
    left = [path.name for holder in tmp_path.glob(".partial-*") for path in holder.iterdir()]
    alive.kill()
    alive.wait()
    assert left == ["alive.txt"]
    assert (tmp_path / "mine.txt").read_text() == "whole"


@pytest.mark.parametrize("synced", [True, False])
def test_files_are_synced_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    seen: list[tuple[bool, bool]] = []  # a folder; what was written is in place
    path = tmp_path / "new"
    monkeypatch.setattr(
        os, "fsync", lambda file: seen.append((S_ISDIR(os.fstat(file).st_mode), path.exists()))
    )
    with replacing(path, synced) as temporary:
        temporary.write_text("whole")
    assert seen == ([(False, False), (True, True)] if synced else [])
    path.unlink()
    seen.clear()
    with replacing(path, synced) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "one").write_text("1")
        (temporary / "two").write_text("2")
        (temporary / "elsewhere").symlink_to("nowhere")
    files, folders = 2 * [(False, False)], 2 * [(True, False)]
    assert sorted(seen) == (sorted([*files, *folders, (True, True)]) if synced else [])
