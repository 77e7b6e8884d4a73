"""All parts, or some, one after the other; what they find is in DIR, a JSON file for each.

    python -m benchmarks.gpu --out DIR [--pack FOLDER] [--device gpu|cpu] [--small] [--parts ...]

Needs torch and what benchmarks.gpu.pack names; wheels of all else are in the FOLDER that it made.
Without it everything must be installed, and made-up scans take the place of the data.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.table import CASES, PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = {"gpu": 5, "cpu": 2}  # of parts that may run beside others
RESERVE_S = 5.0
PEER = "peer"  # the folder, and the option, of nnU-Net's packages


def install(pack: Path, scratch: Path) -> dict[str, Path]:
    """Wheels of the pack, ours and nnU-Net's apart from each other, in folders."""
    places = {}
    for kind in ("ours", PEER):
        wheels = sorted(map(str, (pack / "wheels" / kind).glob("*.whl")))
        places[kind] = scratch / kind
        options = ["--no-index", "--no-deps", "--no-compile", "--target", str(places[kind])]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *options, *wheels], check=True
        )
    return places


class Runner:
    """Runs parts as processes, none of which outlives its time, or that of all of them."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.ends = time.monotonic() + 60 * options.minutes
        self.environment = dict(os.environ)
        places = {} if options.pack is None else install(options.pack, scratch)
        ours = [ROOT, *([places["ours"]] if places else [])]
        self.environment["PYTHONPATH"] = os.pathsep.join(map(str, ours))
        self.peer = places.get(PEER)

    def run(self, part: Part) -> str:
        """How a part ended, in a word."""
        left_s = self.ends - time.monotonic() - RESERVE_S
        limit_s = min(part.limit_s, left_s) if self.options.device == "gpu" else left_s
        if limit_s <= 0:
            return "no time was left"
        started = time.monotonic()
        with (self.options.out / f"{part.name}.log").open("w") as log:
            process = subprocess.Popen(
                self._command(part, limit_s),
                env=self.environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit_s)
                ended = "done" if code == 0 else f"failed ({code})"
            except subprocess.TimeoutExpired:
                ended = f"stopped after {limit_s:.0f} s"
            _end(process)
        seconds = round(time.monotonic() - started, 1)
        print(f"{part.name}: {ended}, {seconds} s", flush=True)
        return f"{ended}, {seconds} s"

    def _command(self, part: Part, limit_s: float) -> list[str]:
        options = self.options
        command = [sys.executable, "-m", "benchmarks.gpu.part", part.name, "--out", options.out]
        command += ["--scratch", self.scratch, "--device", options.device, "--seconds", limit_s]
        command += [] if options.pack is None else ["--pack", options.pack]
        command += [] if self.peer is None else [f"--{PEER}", self.peer]
        return [str(word) for word in (*command, *(["--small"] if options.small else []))]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part with all processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def run_all(runner: Runner, parts: Sequence[Part], at_once: int) -> dict[str, str]:
    """How each part ended: what others need first, then those that time nothing."""
    first = [part for part in parts if part.name == CASES]
    beside = [part for part in parts if part.beside]
    alone = [part for part in parts if part not in (*first, *beside)]
    ends = {part.name: runner.run(part) for part in first}
    with ThreadPoolExecutor(at_once) as pool:
        ends |= dict(zip([p.name for p in beside], pool.map(runner.run, beside), strict=True))
    return ends | {part.name: runner.run(part) for part in alone}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--device", choices=AT_ONCE, default="gpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=9)
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    options.pack = options.pack and options.pack.resolve()
    chosen = [part for part in PARTS if part.name in {CASES, *options.parts}]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        runner = Runner(options, Path(scratch))
        ends = run_all(runner, chosen, AT_ONCE[options.device])
    (options.out / "ends.json").write_text(json.dumps(ends, indent=2) + "\n")


if __name__ == "__main__":
    main()
