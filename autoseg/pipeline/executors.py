"""Where jobs are run: here, or one process for each GPU, one fold after the other in each, or each
with a share of the scans."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from autoseg.errors import AutosegError, raise_if_any
from autoseg.machine import available_cores
from autoseg.parallel import Progress, script_aside, silent
from autoseg.pipeline.predict import Part, PredictJob, PredictResult, predict_files
from autoseg.work_folder import WorkFolder

if TYPE_CHECKING:
    from autoseg.pipeline.jobs import TrainJob

POLL_S = 0.2


def gpus_here() -> list[str]:
    """The GPUs of this machine, in torch's order."""
    from autoseg.device import gpus  # torch takes seconds to import

    return gpus()


def train_on(
    devices: Sequence[str], jobs: "Sequence[TrainJob]", stop: Event, progress: Progress = silent
) -> None:
    """Train folds on all devices at once.

    Each process is `autoseg train` of one fold, and writes to this one's output. Jobs of one
    configuration begin only when those of the one before it have ended. When `stop` is set the
    processes are asked to end, which saves what they have. Raises AutosegError naming the folds
    that failed.
    """
    from autoseg.pipeline.prepare import Resources, prepare

    for configuration in dict.fromkeys(job.configuration for job in jobs):
        wave = [job for job in jobs if job.configuration == configuration]
        names = [] if configuration is None else [configuration]
        resources = Resources(available_cores())
        prepare(WorkFolder(wave[0].work), wave[0].plan, names, resources, progress)
        free: SimpleQueue[str] = SimpleQueue()
        for device in devices:
            free.put(device)

        def run(job: "TrainJob", free: SimpleQueue[str] = free) -> int:
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


def command(job: "TrainJob") -> list[str]:
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


def predict_on(
    devices: Sequence[str], job: PredictJob, progress: Progress = silent
) -> PredictResult:
    """Segment scans on all devices at once, each process having its share of them.

    A limit of memory is for all together. Raises AutosegError, or OSError, when a process fails as
    a whole, or is lost; masks that are written stay.
    """
    count = len(devices)
    limit_gib = None if job.memory_gib is None else job.memory_gib / count
    shared = job.model_copy(update={"memory_gib": limit_gib})
    parts = [
        shared.model_copy(update={"device": device, "part": Part(index=index, count=count)})
        for index, device in enumerate(devices, 1)
    ]
    counts: dict[Connection, tuple[int, int]] = {}
    results: dict[Connection, PredictResult] = {}
    with _predicting(parts) as lines:
        while waiting := [line for line in lines if line not in results]:
            for line in wait(waiting):
                assert isinstance(line, Connection)
                said = _heard(line, devices[lines.index(line)])
                if isinstance(said, PredictResult):
                    results[line] = said
                else:
                    counts[line] = said
                    done, total = (sum(each) for each in zip(*counts.values(), strict=True))
                    progress(done, total, "predicting scans")
    return _together([results[line] for line in lines])


@contextmanager
def _predicting(parts: Sequence[PredictJob]) -> Iterator[list[Connection]]:
    """A process for each part, and a line to each; none is left when the body ends."""
    context = multiprocessing.get_context("spawn")
    lines: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for part in parts:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_predict_part, args=(part, there))
            with script_aside():
                process.start()
            there.close()
            lines.append(here)
            processes.append(process)
        yield lines
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _predict_part(part: PredictJob, line: Connection) -> None:
    """Say how far this is, then the result, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    try:
        line.send(predict_files(part, lambda done, total, what: line.send((done, total))))
    except (AutosegError, OSError) as error:
        line.send(error)


def _heard(line: Connection, device: str) -> tuple[int, int] | PredictResult:
    try:
        said = line.recv()
    except EOFError:
        raise AutosegError(
            f"The process that predicted on {device} was lost. It says why above, or memory did "
            "not suffice. The same command goes on."
        ) from None
    if isinstance(said, Exception):
        raise said
    heard: tuple[int, int] | PredictResult = said
    return heard


def _together(results: Sequence[PredictResult]) -> PredictResult:
    """What all found; every process says the same of inputs that none of them can use."""
    return PredictResult(
        done=[one for result in results for one in result.done],
        kept=sum(result.kept for result in results),
        problems=list(dict.fromkeys(one for result in results for one in result.problems)),
        notes=list(dict.fromkeys(one for result in results for one in result.notes)),
        left_out=list(dict.fromkeys(one for result in results for one in result.left_out)),
    )
