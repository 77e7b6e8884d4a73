"""Benchmarks can begin: what they take from autoseg is there. They run seldom, so that a name that
is gone would be noticed months later."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
THEIRS = (FOLDER / "peer", FOLDER / "gpu" / "peer.py")  # run with other programs' packages
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(FOLDER.rglob("*.py"))
    if path not in THEIRS and path.parent not in THEIRS
]
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {error!r}")
"""


def test_every_benchmark_finds_what_it_imports() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, *MODULES]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert len(MODULES) > 40
    assert run.stdout == ""
