"""One part of the benchmark, in this process: `python -m benchmarks.gpu.part NAME ...`."""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from autoseg.device import Device, choose_device, use_device
from autoseg.planning.plan import Configuration, Plan
from autoseg.work_folder import WorkFolder
from benchmarks.gpu.table import PARTS

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Bench:
    """Where a part runs, with what, and what it has found.

    `pack` holds the prepared data, `scratch` what parts make for each other, `peer` nnU-Net's
    packages. `ends` is when it is stopped, by time.monotonic.
    """

    name: str
    device: Device
    small: bool
    out: Path
    pack: Path
    scratch: Path
    peer: Path | None
    ends: float
    started: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def left_s(self) -> float:
        return self.ends - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device.kind == "gpu"

    def note(self, **found: Any) -> None:
        """Keep what was found, and write all of it at once."""
        self.found |= found
        where = self.device.torch_device
        about = {
            "part": self.name,
            "device": torch.cuda.get_device_name(where) if self.on_gpu else "cpu",
            "torch": torch.__version__,
            "precision": self.device.precision,
            "small": self.small,
            "seconds": round(time.monotonic() - self.started, 1),
        }
        path = self.out / f"{self.name}.json"
        path.write_text(json.dumps(about | self.found, indent=2) + "\n")

    def plan(self) -> tuple[Plan, Configuration]:
        """Those of the pack's data."""
        plan = WorkFolder(self.pack / "work").plan(None)
        return plan, plan.configuration(None)

    def work(self, name: str, **training: Any) -> WorkFolder:
        """A copy of the pack's work folder, with some settings of the training changed."""
        work = WorkFolder(self.scratch / self.name / name)
        shutil.copytree(self.pack / "work", work.root)
        plan = work.plan(None)
        own = plan.configuration(None)
        options = own.run.training.model_copy(update=training)
        run = own.run.model_copy(update={"training": options})
        changed = own.model_copy(update={"run": run})
        configurations = plan.configurations | {own.name: changed}
        work.save_plan(plan.model_copy(update={"configurations": configurations}))
        return work

    def ask_peer(self, what: str, *words: object) -> dict[str, Any]:
        """What nnU-Net's packages measure, in a process of their own; or why not."""
        if self.peer is None:
            return {"left_out": "nnU-Net is not in the pack"}
        answer = self.scratch / f"{self.name}_{what}.json"
        answer.unlink(missing_ok=True)
        places = [os.environ.get("PYTHONPATH", ""), str(self.peer)]
        command = [sys.executable, "-m", "benchmarks.gpu.peer", what, str(answer)]
        command += [TORCH_NAMES[self.device.kind], *map(str, words)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
        try:
            subprocess.run(command, env=environment, cwd=ROOT, timeout=max(1.0, self.left_s - 3))
        except subprocess.TimeoutExpired:
            return {"left_out": "time ran out"}
        return json.loads(answer.read_text()) if answer.exists() else {"left_out": "see the log"}


TORCH_NAMES = {"gpu": "cuda", "cpu": "cpu"}


def run(bench: Bench) -> bool:
    """Whether a part ended well; a failure is written down with what was found before it."""
    bench.note()
    try:
        importlib.import_module(f"benchmarks.gpu.{bench.name}").measure(bench)
    except Exception:
        bench.note(failed=traceback.format_exc())
        return False
    bench.note(ended="done")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    for folder in ("out", "scratch", "pack", "peer"):
        parser.add_argument(f"--{folder}", type=Path, required=folder in ("out", "scratch"))
    options = parser.parse_args()
    device = choose_device(options.device)
    use_device(device)
    if options.small:
        torch.set_num_threads(1)
    bench = Bench(
        options.name, device, options.small, options.out, options.pack or options.scratch / "pack",
        options.scratch, options.peer, time.monotonic() + options.seconds,
    )  # fmt: skip
    if not run(bench):
        sys.exit(bench.found["failed"])


if __name__ == "__main__":
    main()
