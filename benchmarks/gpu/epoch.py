"""A training as it is, from stored cases, with everything on; beside nnU-Net's."""

import threading
import time
from threading import Event
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from autoseg.planning.plan import Configuration
from autoseg.training import batches
from autoseg.training.trainer import train_model
from benchmarks.gpu.cases import ct_cases
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import estimated_gib, made_up, random_model, unet, with_training
from benchmarks.gpu.trainings import Watch, on_cases

ITERATIONS, WARM_UP, PROFILED = 100, 20, 20
SMALL = (12, 4, 4)
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
SAMPLED_EVERY_S = 0.05


class TimedReaders(batches.Readers):
    """Readers that note how long the training's thread is held up by them."""

    held_up_s: list[float] = []  # noqa: RUF012  # of the one training here

    def __next__(self) -> Any:
        asked = time.perf_counter()
        samples = super().__next__()
        self.held_up_s.append(time.perf_counter() - asked)
        return samples


def measure(bench: Bench) -> None:
    iterations, warm_up, profiled = SMALL if bench.small else (ITERATIONS, WARM_UP, PROFILED)
    side = 16 if bench.small else 128
    network = unet("plain_unet", (side,) * 3, 8 if bench.small else 32)
    plan = made_up(bench.plan()[1], network, (side,) * 3)
    execution = "eager" if bench.small else "fastest"
    plan = with_training(plan, iterations_per_epoch=iterations, execution=execution)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    profiler, busy = profile(activities=kinds), BusyShare(bench)
    batches.Readers = TimedReaders  # type: ignore[misc]
    first = iterations - profiled
    watch = Watch({warm_up: busy.start, first - 1: busy.end, first: profiler.start,
                   iterations: profiler.stop})  # fmt: skip
    folder = bench.scratch / "epoch"
    training = on_cases(plan, ct_cases(bench), folder / "ours", bench.device, iterations)
    started = time.perf_counter()
    train_model(training, watch, Event(), resume=False)
    took_s = time.perf_counter() - started
    timed = np.diff(watch.ends[warm_up:first])
    bench.note(
        iterations=iterations,
        all_of_it_s=round(took_s, 1),
        until_the_first_step_s=round(watch.ends[0] - started, 1),
        step_ms=_spread(timed),
        held_up_by_reading_ms=_spread(np.array(TimedReaders.held_up_s[warm_up:first])),
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
        self.bench, self.share, self.ended = bench, None, Event()
        self.seen: list[int] = []
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        if self.bench.on_gpu:
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
    events = list(profiler.events() or ())
    calls = {name: sum(event.name == name for event in events) / steps for name in WAITS}
    kernels = [e.time_range for e in events if e.device_type == DeviceType.CUDA]
    ranges = sorted((span.start, span.end) for span in kernels)
    busy_us = until = 0.0
    for start, end in ranges:  # that may overlap, on several streams
        busy_us += max(0.0, end - max(start, until))
        until = max(until, end)
    whole_us = ranges[-1][1] - ranges[0][0] if ranges else 1e6 * wall_s
    return {"calls_per_step": calls, "gpu_busy": round(busy_us / whole_us, 3)}
