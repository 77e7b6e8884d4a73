"""How much memory training takes, beside what planning expects."""

import torch

from autoseg.planning.plan import Configuration
from autoseg.training.measure import Measurement, _run_steps, measure_training
from benchmarks.gpu.out_of_memory import in_this_process
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import estimated_gib, labels_of, made_up, unet

PLANS = {  # kind, patch, batch, classes
    "plain 128x128x128": ("plain_unet", (128, 128, 128), 2, 2),
    "plain 64x64x64": ("plain_unet", (64, 64, 64), 4, 2),
    "plain 96x160x160": ("plain_unet", (96, 160, 160), 2, 3),
    "plain 128x128x128, 25 classes": ("plain_unet", (128, 128, 128), 2, 25),
    "residual 128x128x128": ("residual_unet", (128, 128, 128), 2, 2),
    "residual 96x96x96": ("residual_unet", (96, 96, 96), 2, 3),
    "residual 160x160x160": ("residual_unet", (160, 160, 160), 2, 2),
    "plain 512x512": ("plain_unet", (512, 512), 12, 2),
    "plain 256x256": ("plain_unet", (256, 256), 48, 4),
    "residual 512x512": ("residual_unet", (512, 512), 12, 2),
}
SMALL_PLANS = {"plain 16x16x16": ("plain_unet", (16, 16, 16), 2, 2)}


def measure(bench: Bench) -> None:
    plans = SMALL_PLANS if bench.small else PLANS
    for name, (kind, patch_vox, batch_size, classes) in plans.items():
        network = unet(kind, patch_vox, 4 if bench.small else 32)
        plan = made_up(bench.plan()[1], network, patch_vox, classes, batch_size)
        estimated = estimated_gib(plan, bench.device.precision != "fp32")
        peak = _measured(bench, plan, classes).peak_memory_gib
        ratio = None if peak is None else round(estimated / peak, 2)
        found = {"estimated_gib": estimated, "measured_gib": peak, "ratio": ratio}
        bench.note(**{name: found})


def _measured(bench: Bench, plan: Configuration, classes: int) -> Measurement:
    if not bench.on_gpu:
        return measure_training(plan, labels_of(classes), bench.device)
    torch.cuda.empty_cache()  # rather than a process for each, whose start takes seconds
    torch.cuda.reset_peak_memory_stats()
    found = in_this_process(_run_steps, plan, labels_of(classes), bench.device)
    return found or Measurement(None, None)
