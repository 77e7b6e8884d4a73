"""Does a GPU compute what a CPU does? Largest differences from single precision on the CPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import RawSample
from autoseg.checkpoint import build_network
from autoseg.device import Device
from autoseg.inference.sliding_window import Batching, predict_logits
from autoseg.networks.family import all_outputs
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import LossPlan
from autoseg.preprocessing.store import open_case
from autoseg.tasks.losses import LOSSES, deep_supervision_loss
from autoseg.training.sampling import PatchSampler
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import made_up, unet

EXACT = Device(torch.device("cpu"), "fp32")
KINDS = ("plain_unet", "residual_unet")
CLASSES, SAMPLES = 3, 8


def measure(bench: Bench) -> None:
    side, features = (16, 4) if bench.small else (64, 32)
    here = [replace(bench.device, precision=precision) for precision in ("fp32", "bf16")]
    bench.note(tf32_of_convolutions=torch.backends.cudnn.allow_tf32)
    for kind in KINDS:
        for dims in (2, 3):
            patch_vox = (side,) * dims
            network = unet(kind, patch_vox, features)
            plan = made_up(bench.plan()[1], network, patch_vox, CLASSES)
            bench.note(**{f"logits {kind} {dims}D": logits(plan, here)})
    for precise in (True, False):
        torch.backends.cudnn.allow_tf32 = not precise
        window = sliding_window(bench.plan()[1], here, side, features)
        bench.note(**{f"sliding window{'' if precise else ', TF32'}": window})
    bench.note(losses=losses(bench.device, side), augmentation=augmentation(bench))


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().cpu().float() - b.detach().cpu().float()).abs().max())


def logits(plan: Configuration, devices: list[Device]) -> dict[str, Any]:
    """Largest differences of logits of all resolutions, and of the weights' gradients; and the
    largest logit."""
    torch.manual_seed(0)
    image = torch.randn(2, 1, *plan.model.patch_size_vox)
    network = build_network(plan.model)
    exact, gradient = _outputs(network, image, plan, EXACT)
    found: dict[str, Any] = {"largest": float(exact[0].detach().abs().max())}
    for device in devices:
        other, own = _outputs(network, image, plan, device)
        found[device.precision] = max(largest(a, b) for a, b in zip(exact, other, strict=True))
        found[f"gradient {device.precision}"] = float((own - gradient).norm() / gradient.norm())
    return found


def _outputs(
    network: torch.nn.Module, image: torch.Tensor, plan: Configuration, device: Device
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Logits, and the gradient of their mean square for all weights together."""
    network.to(device.torch_device).zero_grad()
    with device.autocast():
        outputs = all_outputs(network, image.to(device.torch_device), plan.model.network)
    values = [output.float().square().mean() for output in outputs]
    torch.autograd.backward(torch.stack(values).sum())
    gradients = [p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]
    return outputs, torch.cat(gradients)


def losses(device: Device, side: int) -> dict[str, list[float]]:
    """Of each kind: differences of the loss, and of its gradient, of the same logits."""
    torch.manual_seed(0)
    given = [torch.randn(2, CLASSES, *(side // n,) * 3) for n in (1, 2)]
    target = torch.randint(0, CLASSES, (2, side, side, side), dtype=torch.uint8)
    found = {}
    for kind in LOSSES:
        plan = LossPlan(kind=kind, batch_dice=True, dice_smooth=1e-5, top_k_fraction=0.1)
        values, gradients = [], []
        for where in (torch.device("cpu"), device.torch_device):
            own = [value.to(where).requires_grad_() for value in given]
            value = deep_supervision_loss(own, target.to(where), plan)
            (gradient,) = torch.autograd.grad(value, own[:1])
            values.append(value)
            gradients.append(gradient * gradient.numel())
        found[kind] = [largest(*values), largest(*gradients)]
    return found


def augmentation(bench: Bench) -> dict[str, Any]:
    """Largest differences of images, and shares of voxels with other labels, of the same drawn
    parameters; noise is of the device's own generator."""
    samples = _samples(bench)
    plain = [replace(s, augmentation=replace(s.augmentation, noise_std=0.0)) for s in samples]
    configuration = bench.plan()[1]
    shape = BatchShape(
        patch_size_vox=configuration.model.patch_box_vox,
        masked_channels=configuration.grid.masked_channels,
        planar=configuration.run.augmentation.planar,
    )
    exact = augment_batch(plain, shape, EXACT.torch_device)
    other = augment_batch(plain, shape, bench.device.torch_device)
    return {
        "samples": len(samples),
        "image": largest(exact.image, other.image),
        "labels": float((exact.label != other.label.cpu()).float().mean()),
    }


def _samples(bench: Bench) -> list[RawSample]:
    run, model = bench.plan()[1].run, bench.plan()[1].model
    paths = sorted((bench.pack / "work").rglob("*.prepared"))[:SAMPLES]
    cases = {path.stem: open_case(path) for path in paths}
    sampler = PatchSampler(
        cases, model.patch_box_vox, SAMPLES, run.training, run.augmentation, 0, "training"
    )
    return sampler.draw(0)


def sliding_window(
    template: Configuration, devices: list[Device], side: int, features: int
) -> dict[str, Any]:
    """Shares of voxels that are labelled as on the CPU, and largest differences of logits."""
    plan = made_up(template, unet("plain_unet", (side,) * 3, features), (side,) * 3, CLASSES)
    torch.manual_seed(0)
    image, network = torch.randn(1, *(3 * side // 2,) * 3), build_network(plan.model).eval()
    exact = _window_logits(network, image, plan, EXACT)
    found: dict[str, Any] = {}
    for device in devices:
        other = _window_logits(network, image, plan, device)
        same = np.mean((exact.argmax(0) == other.argmax(0)).numpy())
        found[device.precision] = {"same_labels": float(same), "logits": largest(exact, other)}
    return found


@torch.no_grad()
def _window_logits(
    network: torch.nn.Module, image: torch.Tensor, plan: Configuration, device: Device
) -> torch.Tensor:
    here = device.torch_device
    network.to(here)

    def predict(patches: torch.Tensor) -> torch.Tensor:
        with device.autocast():
            logits: torch.Tensor = network(patches)
        return logits.float()

    (_, y, x), box = image.shape[1:], plan.model.patch_box_vox
    batching, whole = Batching(2, here), ((0, y), (0, x))
    rows = predict_logits(image.to(here), predict, box, plan.inference, whole, batching)
    return torch.cat([row.cpu() for row in rows], dim=1)
