"""The benchmark of a GPU, small and on a CPU: whatever it does there must not be new to it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.table import PARTS


@pytest.mark.slow
def test_every_part_of_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--device", "cpu"]
    subprocess.run([*command, "--small"], check=True, cwd=Path(__file__).parents[1])
    ends = json.loads((tmp_path / "ends.json").read_text())
    assert ends.keys() == {part.name for part in PARTS}
    assert all(end.startswith("done") for end in ends.values()), ends
