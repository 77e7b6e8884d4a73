"""Several folds at once: one process for each GPU, one fold after the other in each."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event

from autoseg.machine import available_cores
from autoseg.pipeline.preparing import Resources, prepare
from autoseg.pipeline.training import TrainRequest
from autoseg.work import WorkFolder
from autoseg.workers import Progress, silent

POLL_S = 0.2


def training_devices() -> list[str]:
    """The GPUs of this machine, by the names that torch has for them."""
    import torch  # takes seconds to import

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def train_on(
    devices: Sequence[str],
    work: WorkFolder,
    requests: Sequence[TrainRequest],
    stop: Event,
    progress: Progress = silent,
) -> list[int]:
    """Train folds on all devices at once; the exit codes of their processes.

    Each process is `autoseg train` of one fold, and writes to this one's output. Requests of one
    configuration begin only when those of the one before it have ended. When `stop` is set the
    processes are asked to end, which saves what they have.
    """
    codes = []
    for configuration in dict.fromkeys(request.configuration for request in requests):
        wave = [r for r in requests if r.configuration == configuration]
        names = [] if configuration is None else [configuration]
        prepare(work, wave[0].plan_name, names, Resources(available_cores()), progress)
        free: SimpleQueue[str] = SimpleQueue()
        for device in devices:
            free.put(device)

        def run(request: TrainRequest, free: SimpleQueue[str] = free) -> int:
            device = free.get()
            try:
                return _run(command(work, request, device), stop)
            finally:
                free.put(device)

        with ThreadPoolExecutor(len(devices)) as pool:
            codes += list(pool.map(run, wave))
        if any(codes):
            break
    return codes


def command(work: WorkFolder, request: TrainRequest, device: str) -> list[str]:
    """What to type to train one fold on one device."""
    fold = "all" if request.fold is None else str(request.fold)
    words = ["-m", "autoseg", "train", "--fold", fold, "--device", device, "--work", str(work.root)]
    given = {
        "--plan": request.plan_name,
        "--configuration": request.configuration,
        "--epochs": request.length.epochs,
        "--iterations": request.length.iterations,
        "--minutes": request.length.minutes,
        "--hours": request.length.hours,
        "--seed": request.seed,
        "--init": request.initial_model,
    }
    for flag, value in given.items():
        if value is not None:
            words += [flag, str(value)]
    words += ["--resume"] if request.resume else []
    words += ["--overwrite"] if request.overwrite else []
    return [sys.executable, *words]


def _run(words: list[str], stop: Event) -> int:
    """A process's exit code; a process that never began has 1."""
    if stop.is_set():
        return 1
    process = subprocess.Popen(words)
    asked = False
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if stop.is_set() and not asked:
                process.terminate()
                asked = True
