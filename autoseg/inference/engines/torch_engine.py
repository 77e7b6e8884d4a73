"""Networks run by torch, as they are."""

import torch

from autoseg.inference.engines.order import Runner, RunOrder


def make_torch_runner(order: RunOrder) -> Runner:
    """The network on its device, in the device's precision."""
    network = order.network.to(order.device.torch_device).eval()

    def run(patches: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), order.device.autocast():
            logits: torch.Tensor = network(patches)
        return logits.float()

    return run
