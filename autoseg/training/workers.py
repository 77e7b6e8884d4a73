"""Batches that processes augment on the CPU, while the GPU trains.

The training chooses what to read, so no process needs to know where classes lie. Each makes whole
steps by the very functions that the training device would call, and so with the same result.
"""

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from threading import Thread

import torch

from autoseg.augmentation.policy import augment_patches, no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import Patches
from autoseg.errors import AutosegError
from autoseg.geometry import Shape3
from autoseg.parallel import explain_failure, script_aside
from autoseg.preprocessing.parts import DamagedCaseError
from autoseg.preprocessing.store import StoredCase
from autoseg.training.prefetch import make_ahead
from autoseg.training.reading import ChosenPatch, closed_case, opened_case, read_sample
from autoseg.training.sampling import PatchSampler

CPU = torch.device("cpu")
DIED = (
    "A process that augments (training.augment_on = workers) died, most likely for want of memory. "
    "Close other programs, or set training.augment_on=device."
)


@dataclass(frozen=True, slots=True)
class StepMaker:
    """Makes the finished samples of a step, in a process of its own.

    Cases travel by path, where they have one, and are opened when they are first read.
    """

    cases: dict[str, StoredCase]
    patch_size_vox: Shape3
    planar: bool
    opened: dict[str, StoredCase] = field(default_factory=dict)

    def make(self, chosen: list[ChosenPatch]) -> list[RawSample]:
        """Samples to which nothing is left to be done. Errors name the cases."""
        raw = [self._read(patch) for patch in chosen]
        with _named(", ".join(patch.case_id for patch in chosen)):
            patches = augment_patches(raw, self.patch_size_vox, self.planar, CPU)
        return [_finished(sample, patches, index) for index, sample in enumerate(raw)]

    def _read(self, chosen: ChosenPatch) -> RawSample:
        name = chosen.case_id
        with _named(name):
            if name not in self.opened:
                self.opened[name] = opened_case(self.cases[name])
            return read_sample(self.opened[name], chosen)


@contextmanager
def _named(cases: str) -> Iterator[None]:
    """Errors with the cases' names, of a kind that can leave the process."""
    try:
        yield
    except Exception as error:
        raise AutosegError(explain_failure(cases, error)) from error


def make_batches(
    sampler: PatchSampler, share: range, steps: Iterator[int], processes: int
) -> Generator[list[RawSample], None, None]:
    """The finished samples of each step in order, made ahead by processes.

    They are what the sampler draws, augmented, however many processes there are. An error is raised
    at its step. Once this generator is closed no process is left.
    """
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(step_maker(sampler),),
    )

    def submit(step: int) -> Future[list[RawSample]]:
        try:
            chosen = sampler.choose(step, share)
            with script_aside():
                return pool.submit(_make_step, chosen)
        except DamagedCaseError as damage:  # found while choosing, to be raised at its step
            failed: Future[list[RawSample]] = Future()
            failed.set_exception(damage)
            return failed

    try:
        yield from make_ahead(submit, steps, processes)
    except BrokenProcessPool as death:
        raise AutosegError(DIED) from death
    finally:
        pool.shutdown(cancel_futures=True)


def step_maker(sampler: PatchSampler) -> StepMaker:
    """What travels to a process: no voxels of cases that have a path, and no class locations."""
    assert sampler.augmentation is not None
    cases = {name: closed_case(case) for name, case in sampler.cases.items()}
    return StepMaker(cases, sampler.patch_size_vox, sampler.augmentation.planar)


def _finished(sample: RawSample, patches: Patches, index: int) -> RawSample:
    return replace(
        sample,
        image=patches.image[index].numpy(),
        label=patches.label[index].numpy(),
        outside=None if patches.outside is None else patches.outside[index].numpy(),
        maps={kind: values[index].numpy() for kind, values in patches.maps.items()},
        objects=None if patches.objects is None else patches.objects[index].numpy(),
        augmentation=no_augmentation(len(sample.image)),
    )


_makers: list[StepMaker] = []  # of a worker process: its only one


def _begin(maker: StepMaker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends them
    parent = multiprocessing.parent_process()
    assert parent is not None
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _makers.append(maker)


def _end_with(parent: BaseProcess) -> None:
    """End this process when a killed training leaves it behind."""
    parent.join()
    os._exit(1)


def _make_step(chosen: list[ChosenPatch]) -> list[RawSample]:
    return _makers[0].make(chosen)
