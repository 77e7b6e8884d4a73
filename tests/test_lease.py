"""Leases are held by living processes alone, on this computer and on others."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoseg import lease
from autoseg.errors import AutosegError
from autoseg.lease import check_free, leased

HOLDS = (
    "import sys; from pathlib import Path; from autoseg.lease import leased\n"
    "with leased(Path(sys.argv[1]), 'fold 0'): print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def another_process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a lease until it is killed."""
    command, pipe = [sys.executable, "-c", HOLDS, str(path)], subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def write_holder(path: Path, **changes: str | int) -> None:
    """What a holder that cannot lock files leaves, on this computer unless said otherwise."""
    holder = lease._this_process().model_dump() | changes
    path.write_text(json.dumps(holder))


def test_a_second_process_is_told_who_holds_a_place_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "fold_0.json"
    with another_process(path) as other:
        told = (
            rf"(?s)fold 0 is in use by `-c .*\(process {other.pid} on .*since 20.*kill {other.pid}"
        )
        with pytest.raises(AutosegError, match=told), leased(path, "fold 0"):
            pass
        with pytest.raises(AutosegError, match="with another --name or another --work"):
            check_free(path, "fold 0")
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert path.read_bytes()  # it could not say goodbye
        check_free(path, "fold 0")
        with leased(path, "fold 0"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_bytes() == b""


def test_a_place_is_free_after_an_error_or_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.json"
    with pytest.raises(KeyboardInterrupt), leased(path, "fold 0"):
        raise KeyboardInterrupt
    with leased(path, "fold 0"), pytest.raises(AutosegError), leased(path, "fold 0"):
        pass
    check_free(path, "fold 0")


def test_a_holder_on_another_computer_is_believed_while_it_is_heard_of(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.json"
    write_holder(path, boot="another", host="node7")
    with pytest.raises(AutosegError, match=r"on node7.*heard of 0 seconds ago.*delete"):
        check_free(path, "fold 0")
    long_ago = time.time() - lease.SILENCE_S - 1
    os.utime(path, (long_ago, long_ago))
    with leased(path, "fold 0"):
        pass


def test_a_holder_is_heard_of_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fold_0.json"
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    with leased(path, "fold 0"):
        os.utime(path, (0, 0))
        until = time.monotonic() + 5
        while path.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert lease._silence_s(path) < 5


def test_without_locks_a_process_that_ended_or_was_followed_by_another_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "fold_0.json"
    write_holder(path)
    with pytest.raises(AutosegError, match=f"process {os.getpid()} on"):
        check_free(path, "fold 0")
    write_holder(path, started="long ago")
    check_free(path, "fold 0")
    write_holder(path, pid=2**22 + 1)
    with leased(path, "fold 0"):
        pass


def test_after_a_restart_of_this_computer_a_place_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.json"
    write_holder(path, boot="before the power cut")
    check_free(path, "fold 0")
    with leased(path, "fold 0"):
        pass


def test_a_process_in_another_container_is_to_be_stopped_there(tmp_path: Path) -> None:
    path = tmp_path / "fold_0.json"
    with another_process(path):
        write_holder(path, host="container7", pid=17)
        with pytest.raises(AutosegError, match=r"process 17 on container7.*stop it there") as told:
            check_free(path, "fold 0")
    assert "kill" not in str(told.value)


@pytest.mark.parametrize("taken", ["leases/fold_0.json/folder", "leases"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).touch()
    path = tmp_path / "leases" / "fold_0.json"
    with pytest.raises(AutosegError, match=rf"{path}: .*--work"), leased(path, "fold 0"):
        pass
