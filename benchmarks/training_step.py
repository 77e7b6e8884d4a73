"""Seconds per training step by network width and precision: the numbers behind the `cpu` rules.

Random patches of hippocampus size, the real network, loss and optimiser; medians of interleaved
repeats, so that a machine whose speed drifts treats all variants alike.

    python benchmarks/training_step.py --threads 2
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from autoseg.device import choose_device, machine_of
from autoseg.networks import FAMILIES
from autoseg.planning.network_plan import NetworkPlan, StagePlan, UNetPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.losses import deep_supervision_loss

PATCH_VOX = (40, 56, 40)
BATCH = 2
RESULTS = Path(__file__).parent / "results"


def plain_unet(base_features: int) -> NetworkPlan:
    stages = tuple(
        StagePlan(
            features=base_features * 2**index,
            kernel_size=(3, 3, 3),
            stride=(2, 2, 2) if index else (1, 1, 1),
            blocks=2,
            decoder_blocks=2 if index < 3 else 0,
        )
        for index in range(4)
    )
    return UNetPlan(
        kind="plain_unet",
        stages=stages,
        norm="instance",
        activation="leaky_relu",
        bias=True,
        upsampling="transposed",
        deep_supervision=True,
    )


class Variant:
    def __init__(self, base_features: int, bf16: bool) -> None:
        self.name = f"{base_features} features, {'bf16' if bf16 else 'fp32'}"
        self.bf16 = bf16
        self.network = FAMILIES["plain_unet"].build(plain_unet(base_features), 1, 3)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.01, momentum=0.99, nesterov=True
        )
        self.seconds: list[float] = []

    def step(self, image: torch.Tensor, label: torch.Tensor, loss: LossPlan) -> None:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.network(image, all_resolutions=True)
        value = deep_supervision_loss(logits, label, loss)
        self.optimizer.zero_grad()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loss = LossPlan(kind="ce_dice", batch_dice=False, dice_smooth=1e-5)
    image = torch.randn(BATCH, 1, *PATCH_VOX)
    label = torch.randint(0, 3, (BATCH, *PATCH_VOX), dtype=torch.uint8)
    variants = [Variant(features, bf16) for features in (16, 32) for bf16 in (False, True)]
    for _ in range(options.repeats):
        for variant in variants:
            variant.step(image, label, loss)
    medians = {v.name: round(statistics.median(v.seconds[2:]), 3) for v in variants}
    for name, seconds in medians.items():
        print(f"{name:20} {seconds:.3f} s per step")
    result = {
        "machine": machine_of(choose_device()).model_dump(mode="json"),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": options.threads,
        "batch": BATCH,
        "patch_size_vox": PATCH_VOX,
        "median_seconds_per_step": medians,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_step.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
