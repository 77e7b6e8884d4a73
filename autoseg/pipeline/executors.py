"""Several folds at once: one process for each GPU, one fold after the other in each."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event

from autoseg.errors import raise_if_any
from autoseg.machine import available_cores
from autoseg.parallel import Progress, silent
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.pipeline.train import TrainRequest, fit_plan
from autoseg.work_folder import WorkFolder

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
) -> None:
    """Train folds on all devices at once.

    Each process is `autoseg train` of one fold, and writes to this one's output. Requests of one
    configuration begin only when those of the one before it have ended. When `stop` is set the
    processes are asked to end, which saves what they have. Raises AutosegError naming the folds
    that failed.
    """
    for configuration in dict.fromkeys(request.configuration for request in requests):
        wave = [r for r in requests if r.configuration == configuration]
        names = [] if configuration is None else [configuration]
        prepare(work, wave[0].plan_name, names, Resources(available_cores()), progress)
        fit_plan(work, wave[0])  # once, and not in every process at the same time
        free: SimpleQueue[str] = SimpleQueue()
        for device in devices:
            free.put(device)

        def run(request: TrainRequest, free: SimpleQueue[str] = free) -> int:
            device = free.get()
            try:
                return _run(command(work, request, device), len(devices), stop)
            finally:
                free.put(device)

        with ThreadPoolExecutor(len(devices)) as pool:
            codes = list(pool.map(run, wave))
        if stop.is_set():
            return
        raise_if_any(
            [
                f"fold {request.fold}: its process ended with exit code {code}, and says why above."
                for request, code in zip(wave, codes, strict=True)
                if code
            ],
            "Folds that could not be trained",
        )


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


def _run(words: list[str], processes: int, stop: Event) -> int:
    """A process's exit code; a process that never began has 1."""
    if stop.is_set():
        return 1
    # In a session of its own, so that Ctrl-C reaches it once: from here.
    shared = os.environ | {"LOCAL_WORLD_SIZE": str(processes)}
    process = subprocess.Popen(words, start_new_session=True, env=shared)
    asked = False
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if stop.is_set() and not asked:
                process.terminate()
                asked = True
