"""Whole commands, timed, with the memory of all their processes together."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.5  # reading the memory of large processes holds them up


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took. Memory is the largest sum of all its processes' proportional shares."""

    seconds: float
    peak_mb: float
    exit_code: int
    stopped: bool = False  # by us


def run(
    command: list[str],
    environment: dict[str, str] | None = None,
    patience_s: float = float("inf"),
) -> Run:
    """Run a command, watching it and its children, to its end or that of our patience."""
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    peak = 0.0
    while process.poll() is None and time.monotonic() - started < patience_s:
        peak = max(peak, _memory_mb(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(INTERVAL_S)
    seconds, stopped = time.monotonic() - started, process.poll() is None
    if stopped:
        os.killpg(process.pid, signal.SIGKILL)
    return Run(seconds, peak, process.wait(), stopped)


def _memory_mb(session: int) -> float:
    """Memory of every process of a session, shared pages counted once."""
    total_kb = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                rollup = (folder / "smaps_rollup").read_text()
                total_kb += int(rollup.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError, ValueError):  # it has ended meanwhile
            continue
    return total_kb / 1024
