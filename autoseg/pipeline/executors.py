"""Where jobs are run: here, or one process for each GPU, one fold after the other in each."""

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
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.work_folder import WorkFolder

POLL_S = 0.2


def training_devices() -> list[str]:
    """The GPUs of this machine, in torch's order."""
    from autoseg.device import gpus  # torch takes seconds to import

    return gpus()


def train_on(
    devices: Sequence[str], jobs: Sequence[TrainJob], stop: Event, progress: Progress = silent
) -> None:
    """Train folds on all devices at once.

    Each process is `autoseg train` of one fold, and writes to this one's output. Jobs of one
    configuration begin only when those of the one before it have ended. When `stop` is set the
    processes are asked to end, which saves what they have. Raises AutosegError naming the folds
    that failed.
    """
    for configuration in dict.fromkeys(job.configuration for job in jobs):
        wave = [job for job in jobs if job.configuration == configuration]
        names = [] if configuration is None else [configuration]
        work = WorkFolder(wave[0].work)
        prepare(work, wave[0].plan, names, Resources(available_cores()), progress)
        free: SimpleQueue[str] = SimpleQueue()
        for device in devices:
            free.put(device)

        def run(job: TrainJob, free: SimpleQueue[str] = free) -> int:
            device = free.get()
            try:
                words = command(job.model_copy(update={"device": device}))
                return _run(words, len(devices), stop)
            finally:
                free.put(device)

        with ThreadPoolExecutor(len(devices)) as pool:
            codes = list(pool.map(run, wave))
        if stop.is_set():
            return
        raise_if_any(
            [
                f"fold {job.fold}: its process ended with exit code {code}, and says why above."
                for job, code in zip(wave, codes, strict=True)
                if code
            ],
            "Folds that could not be trained",
        )


def command(job: TrainJob) -> list[str]:
    """What to type to do a job."""
    fold = "all" if job.fold is None else str(job.fold)
    seconds = job.budget.seconds
    given = {
        "--device": job.device,
        "--plan": job.plan,
        "--configuration": job.configuration,
        "--epochs": job.budget.epochs,
        "--iterations": job.budget.iterations,
        "--minutes": None if seconds is None else seconds / 60,
        "--seed": job.seed,
        "--init": job.initial_model,
    }
    words = ["-m", "autoseg", "train", "--fold", fold, "--work", str(job.work)]
    for flag, value in given.items():
        if value is not None:
            words += [flag, str(value)]
    words += {"anew": [], "resume": ["--resume"], "over": ["--overwrite"]}[job.start]
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
