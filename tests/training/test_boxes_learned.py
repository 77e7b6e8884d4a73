"""Networks of boxes learn to tell touching discs and balls apart, from nothing."""

import numpy as np
import pytest
import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.networks.mask_rcnn import MaskRCNN
from autoseg.networks.mask_rcnn_family import RegionSize, region_network
from autoseg.planning.box_network_plan import AnchorLevel
from autoseg.planning.model_plan import BoxesPlan
from autoseg.planning.network_plan import BoxNetworkPlan, StagePlan
from autoseg.planning.run_plan import BoxLossPlan, LossPlan
from autoseg.tasks.boxes import boxes_task

LABELS = LabelScheme(values=(0, 1), names=("background", "cell"), things=("cell",))
LOSS = LossPlan(kind="found_boxes", batch_dice=False, dice_smooth=1, boxes=BoxLossPlan())
SHAPES = {2: (64, 64), 3: (16, 32, 32)}
SIZE = RegionSize(16, 5, 64, 6, 1, 1, 16, 16)
BATCH, RATE, WARM_UP = 4, 2e-3, 10


def plan_of(dims: int) -> BoxNetworkPlan:
    stages = tuple(
        StagePlan(features=8 * 2**i, kernel_size=(3,) * dims, stride=(min(i, 1) + 1,) * dims,
                  blocks=1, decoder_blocks=0)
        for i in range(4)
    )  # fmt: skip
    anchors = tuple(
        AnchorLevel(stage=stage, sizes_vox=((size,) * dims,)) for stage, size in ((1, 9), (2, 16))
    )
    network = region_network(SIZE, stages, anchors, 16 if dims == 2 else 10)
    return network.model_copy(update={"block": "residual"})


def discs(seed: int, dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images [batch, 1, *space] of discs that may touch, and their numbers."""
    rng = np.random.default_rng(seed)
    numbers = np.zeros((BATCH, *SHAPES[dims]), np.int64)
    place = np.moveaxis(np.indices(SHAPES[dims]), 0, -1)
    for sample in numbers:
        for number in range(1, 8):
            radius = rng.uniform(4, 9 if dims == 2 else 7)
            centre = [rng.uniform(0, n) for n in SHAPES[dims]]
            inside = np.linalg.norm(place - centre, axis=-1) < radius
            if not (inside & (sample > 0)).any():
                sample[inside] = number
    image = (numbers > 0) + rng.normal(0, 0.3, numbers.shape)
    return torch.from_numpy(image).float()[:, None], torch.from_numpy(numbers)


def trained(dims: int, steps: int, batches: int) -> tuple[MaskRCNN, list[float]]:
    """With so many batches in turn."""
    torch.manual_seed(0)
    plan = plan_of(dims)
    network = MaskRCNN(plan, 1, 2)
    ones = plan.mask_stride
    task = boxes_task(BoxesPlan(classes=2, things=(1,), objects=10, mask_stride=ones), LOSS, LABELS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                RATE * min(1, (step + 1) / min(WARM_UP, batches)) * (1 - step / steps) ** 0.9
            )
        image, numbers = discs(step % batches, dims)
        outputs = network(image, all_resolutions=True)
        loss = task.loss(outputs, task.targets((numbers > 0).to(torch.uint8), numbers))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return network.eval(), losses


def average_precision(network: MaskRCNN, dims: int) -> float:
    """At an IoU of 0.5 of masks, over held-out images: the area under precision by recall."""
    hits, scores, count = [], [], 0
    for seed in range(10_000, 10_005):
        image, numbers = discs(seed, dims)
        with torch.no_grad():
            [found] = network.found(image)
        probability = found.classes.softmax(-1)[..., 1]
        for sample, truth in enumerate(numbers):
            left = truth.unique()[1:].tolist()
            count += len(left)
            for query in probability[sample].argsort(descending=True).tolist():
                if probability[sample, query] < 0.05:
                    break
                mask = found.masks[sample, query] > 0
                iou = {
                    n: float((mask & (truth == n)).sum() / (mask | (truth == n)).sum())
                    for n in left
                }
                best = max(iou, key=lambda n: iou[n], default=0)
                hit = bool(iou) and iou[best] >= 0.5
                if hit:
                    left.remove(best)
                hits.append(hit)
                scores.append(float(probability[sample, query]))
    right = np.array(hits)[np.argsort(-np.array(scores), kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_beyond[right].sum() / count)


def test_one_batch_is_learned_in_a_few_steps() -> None:
    _, losses = trained(2, 8, batches=1)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "steps"), [(2, 100), (3, 60)])
def test_discs_and_balls_are_found(dims: int, steps: int) -> None:
    network, _ = trained(dims, steps, batches=steps)
    assert average_precision(network, dims) > 0.7
