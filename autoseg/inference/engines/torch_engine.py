"""Networks run by torch: as they are, laid out channels last, or recorded once and replayed."""

import threading
from dataclasses import dataclass, field
from typing import Any

import torch

from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.networks.cpu_training import CHANNELS_LAST

RECORDED = 2  # numbers of patches: of whole batches, and of the last one of a scan
WARM_UP = 3  # runs before one is recorded, in which libraries set up what they need


def make_torch_runner(request: EngineRequest) -> Runner:
    """The network on its device, in the device's precision, executed as is asked for."""
    network = request.network.to(request.device.torch_device).eval()
    layout = torch.contiguous_format
    if request.execution == "channels_last":
        layout = CHANNELS_LAST[len(request.patch_shape) + 1]
        for parameter in network.parameters():
            if parameter.ndim in CHANNELS_LAST:
                parameter.data = parameter.data.contiguous(memory_format=layout)

    def run(patches: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), request.device.autocast():
            logits: torch.Tensor = network(patches.contiguous(memory_format=layout))
        return logits.float()

    return Replayed(run) if request.execution == "replayed" else run


@dataclass(slots=True)
class _Recording:
    """A GPU's work for so many patches, from one place in its memory to another."""

    graph: Any
    patches: torch.Tensor
    logits: torch.Tensor


@dataclass(slots=True)
class _Recordings(threading.local):
    """Those of one thread, since each has its places in memory."""

    by_count: dict[int, _Recording] = field(default_factory=dict)


class Replayed:
    """Patches through a network whose launches on a GPU were recorded (CUDA graphs), so that the
    host does not launch each kernel anew. Logits are overwritten by the next call."""

    def __init__(self, run: Runner) -> None:
        self.run = run
        self.own = _Recordings()

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        known = self.own.by_count
        if len(patches) not in known:
            if len(known) >= RECORDED:
                return self.run(patches)
            known[len(patches)] = _record(self.run, patches)
        recording = known[len(patches)]
        recording.patches.copy_(patches)
        recording.graph.replay()
        return recording.logits


def _record(run: Runner, patches: torch.Tensor) -> _Recording:
    """As torch documents it: warmed up on a stream of its own, then captured."""
    place = patches.clone(memory_format=torch.contiguous_format)
    beside = torch.cuda.Stream(patches.device)  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream(patches.device))
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            run(place)
    torch.cuda.current_stream(patches.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # Only this thread is held to the rules of recording; others may copy their scans meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        logits = run(place)
    return _Recording(graph, place, logits)
