"""A training as it is, from stored cases, with everything on; beside nnU-Net's."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from autoseg.augmentation.batch import Batch
from autoseg.augmentation.sample import RawSample
from autoseg.planning.plan import Configuration
from autoseg.training import batches, trainer
from autoseg.training.batches import Samples, TrainingBatches
from autoseg.training.job import Training
from benchmarks.gpu.cases import ct_cases
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import estimated_gib, made_up, random_model, unet, with_training
from benchmarks.gpu.trainings import Watch, chosen_runs, on_cases

ITERATIONS, WARM_UP, PROFILED = 100, 20, 20
SMALL = (12, 4, 4)
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
SAMPLED_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class HeldUp:
    """How long the training's thread is held up in each step, by waiting for samples that are not
    read yet, and by all that makes a batch."""

    reading_s: list[float] = field(default_factory=list)
    batch_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TimedSamples:
    """Samples, with notes on the wait for them."""

    samples: Samples
    held_up: HeldUp

    def __next__(self) -> list[RawSample]:
        asked = time.perf_counter()
        samples = next(self.samples)
        self.held_up.reading_s.append(time.perf_counter() - asked)
        return samples

    def give_back(self) -> None:
        self.samples.give_back()

    def close(self) -> None:
        self.samples.close()


class TimedBatches(TrainingBatches):
    """A training's batches, with notes on the time that its thread spends on them."""

    def __init__(self, held_up: HeldUp, training: Training, iteration: int) -> None:
        super().__init__(training, iteration)
        self.held_up, self.samples = held_up, TimedSamples(self.samples, held_up)

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        batch = super().__next__()
        self.held_up.batch_s.append(time.perf_counter() - asked)
        return batch

    def make_next(self) -> None:
        asked = time.perf_counter()
        super().make_next()
        self.held_up.batch_s[-1] += time.perf_counter() - asked


@contextmanager
def timed_batches(held_up: HeldUp) -> Iterator[None]:
    """Trainings in this context note what holds them up, and are read for by processes, as on a
    GPU, wherever they are."""
    everywhere = patch.object(batches, "READ_BY_PROCESSES_FOR", ("cuda", "cpu"))
    with everywhere, patch.object(trainer, "TrainingBatches", partial(TimedBatches, held_up)):
        yield


def measure(bench: Bench) -> None:
    iterations, warm_up, profiled = SMALL if bench.small else (ITERATIONS, WARM_UP, PROFILED)
    side = 16 if bench.small else 128
    network = unet("plain_unet", (side,) * 3, 8 if bench.small else 32)
    plan = made_up(bench.plan()[1], network, (side,) * 3)
    execution = "fastest_uncompiled" if bench.small else "fastest"
    plan = with_training(plan, iterations_per_epoch=iterations, execution=execution)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    profiler, busy, held_up = profile(activities=kinds), BusyShare(bench), HeldUp()
    first = iterations - profiled
    watch = Watch({warm_up: busy.start, first - 1: busy.end, first: profiler.start,
                   iterations: profiler.stop})  # fmt: skip
    folder = bench.scratch / "epoch"
    training = on_cases(plan, ct_cases(bench), folder / "ours", bench.device, iterations)
    started = time.perf_counter()
    with timed_batches(held_up):
        trainer.train_model(training, watch, Event(), resume=False)
    took_s = time.perf_counter() - started
    timed = np.diff(watch.ends[warm_up:first])
    bench.note(
        iterations=iterations,
        chosen=chosen_runs(training.cache),
        all_of_it_s=round(took_s, 1),
        until_the_first_step_s=round(watch.ends[0] - started, 1),
        step_ms=_spread(timed),
        held_up_by_reading_ms=_spread(np.array(held_up.reading_s[warm_up:first])),
        held_up_by_batches_ms=_spread(np.array(held_up.batch_s[warm_up:first])),
        gpu_busy_sampled=busy.share,
        memory=_memory(bench, plan),
        profile=_profile(profiler, profiled, watch.ends[-1] - watch.ends[-1 - profiled]),
    )
    _, exported = random_model(folder / "model", plan)
    bench.note(nnunetv2=bench.ask_peer("epoch", exported, ct_cases(bench), iterations, warm_up))


def _spread(seconds: Any) -> dict[str, float]:
    if not len(seconds):
        return {}
    names = {"mean": np.mean(seconds), "median": np.median(seconds)}
    names["95"] = np.percentile(seconds, 95)
    return {name: round(1000 * float(value), 2) for name, value in names.items()}


class BusyShare:
    """How much of the time a GPU works, as its driver says."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.ended = bench, Event()
        self.share: float | None = None
        self.seen: list[int] = []
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        if self.bench.on_gpu:
            torch.cuda.reset_peak_memory_stats()  # what was tried first took its own
            self.thread.start()

    def end(self) -> None:
        self.ended.set()
        if self.seen:
            self.share = round(float(np.mean(self.seen)) / 100, 3)

    def _sample(self) -> None:
        while not self.ended.wait(SAMPLED_EVERY_S):
            try:
                self.seen.append(torch.cuda.utilization(self.bench.device.torch_device))
            except (ModuleNotFoundError, RuntimeError):  # no NVML
                return


def _memory(bench: Bench, plan: Configuration) -> dict[str, float]:
    found = {"estimated_gib": estimated_gib(plan, bench.device.precision != "fp32")}
    if bench.on_gpu:
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
        found["allocated_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 2) for name, value in found.items()}


def _profile(profiler: profile, steps: int, wall_s: float) -> dict[str, Any]:
    """Calls of a step that wait for the GPU, and the share of the time that kernels run."""
    events = list(profiler.events() or ())  # type: ignore[no-untyped-call]  # torch's
    calls = {name: sum(event.name == name for event in events) / steps for name in WAITS}
    kernels = [e.time_range for e in events if e.device_type == DeviceType.CUDA]
    ranges = sorted((span.start, span.end) for span in kernels)
    busy_us = until = 0.0
    for start, end in ranges:  # that may overlap, on several streams
        busy_us += max(0.0, end - max(start, until))
        until = max(until, end)
    whole_us = ranges[-1][1] - ranges[0][0] if ranges else 1e6 * wall_s
    return {"calls_per_step": calls, "gpu_busy": round(busy_us / whole_us, 3)}
