"""Non-maximum suppression without asking the device anything, so that it may be part of a graph."""

import torch

from autoseg.networks.box_geometry import pairwise_iou

ROUNDS = 24


def survivors(
    boxes: torch.Tensor, overlap: float, kinds: torch.Tensor | None = None
) -> torch.Tensor:
    """Which boxes [..., box, 2 x axis], the surest first, overlap no surer survivor by more than an
    IoU of `overlap` [..., box]; given kinds [..., box], none of their kind.

    All pairs at once: what no survivor of the last round suppresses survives the next. A box is
    settled once those are that it depends on, so after as many rounds as the longest chain of
    boxes that suppress one another this is what going through them in order gives; chains longer
    than ROUNDS do not occur among boxes that networks give, and would keep a box too many or few.
    """
    count = boxes.shape[-2]
    order = torch.arange(count, device=boxes.device)
    suppresses = (pairwise_iou(boxes, boxes) > overlap) & (order[:, None] > order)  # [box, surer]
    if kinds is not None:
        suppresses = suppresses & (kinds[..., :, None] == kinds[..., None, :])
    kept = torch.ones_like(boxes[..., 0], dtype=torch.bool)
    for _ in range(min(ROUNDS, count)):
        kept = ~(suppresses & kept[..., None, :]).any(-1)
    return kept
