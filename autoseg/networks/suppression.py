"""Non-maximum suppression without asking the device anything, so that it may be part of a graph."""

import torch

from autoseg.networks.box_geometry import pairwise_iou

ROUNDS = 24
BLOCK = 128  # boxes that a CPU settles at once: more are larger products, fewer a longer graph


def survivors(
    boxes: torch.Tensor, overlap: float, kinds: torch.Tensor | None = None
) -> torch.Tensor:
    """Which boxes [..., box, 2 x axis], the surest first, overlap no surer survivor by more than
    an IoU of `overlap` [..., box]; given kinds [..., box], none of their kind.

    One block of boxes after another (a GPU takes all as one), by what survived of those before it,
    and then all pairs of the block at once: what no survivor of the last round suppresses survives
    the next. A box is settled once those are that it depends on, so after as many rounds as the
    longest chain of boxes that suppress one another this is what going through them in order gives;
    chains longer than ROUNDS do not occur among boxes that networks give, and would keep a box too
    many or few.
    """
    count, settled_before = boxes.shape[-2], list[torch.Tensor]()  # [..., box of a block, 1]
    size = BLOCK if boxes.is_cpu else max(1, count)
    for first in range(0, count, size):
        last = min(first + size, count)
        suppresses = pairwise_iou(boxes[..., first:last, :], boxes[..., :last, :]) > overlap
        if kinds is not None:
            suppresses &= kinds[..., first:last, None] == kinds[..., None, :last]
        by_whom = suppresses.tril(first - 1).float()  # [..., box of the block, surer box]
        # Products of matrices are far quicker than looking whether there is `any`.
        free = torch.ones_like(by_whom[..., :1])
        if settled_before:
            free = (by_whom[..., :first] @ torch.cat(settled_before, dim=-2) == 0).float()
        settled = free
        for _ in range(min(ROUNDS, last - first)):
            settled = free * (by_whom[..., first:] @ settled == 0)
        settled_before.append(settled)
    if not settled_before:
        return torch.ones_like(boxes[..., 0], dtype=torch.bool)
    return torch.cat(settled_before, dim=-2)[..., 0] > 0
