"""Benchmarks can begin: what they take from autoseg is there. They run seldom, so that a name that
is gone would be noticed months later."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.objects import Tally

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


def test_objects_are_tallied_over_all_images() -> None:
    truth, found = (np.zeros((1, 12, 300), np.int64) for _ in range(2))
    for number in range(1, 121):  # more than COCO would count
        truth[0, 2:4, 2 * number : 2 * number + 1] = number
    found[:] = truth
    found[0, 8, 5] = 121  # false, and the surest
    scores = dict.fromkeys(range(1, 121), 0.5) | {121: 0.9}
    tally = Tally()
    tally.add(truth, found, scores)
    tally.add(truth, np.zeros_like(found), {})
    figures = tally.figures()
    assert figures["AP@0.5"] == pytest.approx(51 / 101 * 120 / 121)  # recalls up to a half
    assert figures["Jaccard@0.9"] == pytest.approx(120 / 241)
    assert figures["PQ"] == pytest.approx(120 / (120 + 0.5 * (1 + 120)))
