"""Batches that processes augment on the CPU, while the GPU trains."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augmentation.masks import change_mask
from autoseg.augmentation.policy import draw_augmentation, no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.errors import AutosegError
from autoseg.geometry import Box
from autoseg.preprocessing.store import StoredCase, open_case, with_previous
from autoseg.training.sampling import PatchSampler

BATCHES_AHEAD = 4
INSTALL = "training.augment_on = workers needs batchgenerators: pip install 'autoseg[workers]'."

_state: dict[str, Any] = {}  # of a worker process: its sampler and its policy


def make_batches(
    sampler: PatchSampler, share: range, steps: Iterator[int], processes: int
) -> Generator[list[RawSample], None, None]:
    """The finished samples of each step in order, made ahead by processes.

    Each sample is keyed by seed, step and index, so the number of processes changes nothing. Raises
    AutosegError when batchgenerators is not installed.
    """
    assert sampler.augmentation is not None
    try:
        from autoseg.augmentation.on_cpu import CpuPolicy
    except ImportError:
        raise AutosegError(INSTALL) from None
    CpuPolicy(sampler.augmentation, sampler.patch_size_vox)  # says here what it cannot do
    by_path = {name: _closed(case) for name, case in sampler.cases.items()}
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(replace(sampler, cases=by_path),),
    )
    pending: deque[list[Future[RawSample]]] = deque()
    try:
        for step in steps:
            pending.append([pool.submit(_make_sample, step, index) for index in share])
            if len(pending) > BATCHES_AHEAD:
                yield [sample.result() for sample in pending.popleft()]
        while pending:
            yield [sample.result() for sample in pending.popleft()]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _closed(case: StoredCase) -> StoredCase:
    """A case as it travels to another process: by its path, where it has one."""
    if case.path is None:
        return case
    return replace(case, image=None, label=None, outside_mask=None, previous_label=None)


def _opened(case: StoredCase) -> StoredCase:
    if case.path is None:
        return case
    opened = open_case(case.path, check=False)  # which was done before
    return with_previous(opened, case.previous_path) if case.previous_path else opened


def _begin(sampler: PatchSampler) -> None:
    from autoseg.augmentation.on_cpu import CpuPolicy

    assert sampler.augmentation is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends them
    torch.set_num_threads(1)
    cases = {name: _opened(case) for name, case in sampler.cases.items()}
    _state["sampler"] = replace(sampler, cases=cases)
    _state["policy"] = CpuPolicy(sampler.augmentation, sampler.patch_size_vox)


def _make_sample(step: int, index: int) -> RawSample:
    return augmented_sample(_state["sampler"], _state["policy"], step, index)


def augmented_sample(sampler: PatchSampler, policy: Any, step: int, index: int) -> RawSample:
    """One finished sample: the patch that the policy made, with nothing left to do to it."""
    from autoseg.augmentation.on_cpu import largest_reach

    assert sampler.augmentation is not None
    patch_vox = np.array(sampler.patch_size_vox)
    rng, case_id, start = sampler.choose(step, index)
    case = sampler.cases[case_id]
    reach = np.maximum(largest_reach(sampler.augmentation, sampler.patch_size_vox), patch_vox)
    reach += (reach - patch_vox) % 2  # so that patch and box have one centre
    first = np.array(start) - (reach - patch_vox) // 2
    patch = case.read(Box(start=tuple(first.tolist()), stop=tuple((first + reach).tolist())))
    masks: list[NDArray[Any]] = [patch.label]
    if patch.outside is not None:
        masks.append(patch.outside)
    if patch.previous is not None:
        channels = len(patch.image)
        drawn = draw_augmentation(sampler.augmentation, channels, sampler.patch_size_vox, rng)
        masks.append(change_mask(patch.previous, drawn.mask))
    image, made = policy(patch.image, np.stack(masks).astype(np.uint8), int(rng.integers(2**32)))
    return RawSample(
        case_id=case_id,
        image=image,
        label=made[0],
        outside=None if patch.outside is None else made[1] > 0,
        previous=None if patch.previous is None else made[-1],
        centre_vox=(patch_vox - 1) / 2,
        augmentation=no_augmentation(len(image)),
    )
