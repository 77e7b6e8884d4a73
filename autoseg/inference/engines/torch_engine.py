"""Networks run by torch, as they are."""

import torch

from autoseg.inference.engines.request import EngineRequest, Runner


def make_torch_runner(request: EngineRequest) -> Runner:
    """The network on its device, in the device's precision."""
    network = request.network.to(request.device.torch_device).eval()

    def run(patches: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), request.device.autocast():
            logits: torch.Tensor = network(patches)
        return logits.float()

    return run
