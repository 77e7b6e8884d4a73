"""Non-maximum suppression without asking the device anything, so that it may be part of a graph."""

import torch

from autoseg.networks.box_geometry import pairwise_iou

ROUNDS = 24
BLOCK = 256  # boxes that are settled together: a matrix of theirs fits into a CPU's cache


def survivors(
    boxes: torch.Tensor, overlap: float, kinds: torch.Tensor | None = None
) -> torch.Tensor:
    """Which boxes [batch, box, 2 x axis], the surest first, overlap no surer survivor by more than
    an IoU of `overlap` [batch, box]; given kinds [batch, box], none of their kind.

    One block of boxes after another, by what survived of those before it, and then all pairs of the
    block at once: what no survivor of the last round suppresses survives the next. A box is
    settled once those are that it depends on, so after as many rounds as the longest chain of
    boxes that suppress one another this is what going through them in order gives; chains longer
    than ROUNDS do not occur among boxes that networks give, and would keep a box too many or few.
    """
    kept = boxes.new_empty((*boxes.shape[:-2], 0, 1))  # [batch, box so far, 1]
    for first in range(0, boxes.shape[-2], BLOCK):
        last = min(first + BLOCK, boxes.shape[-2])
        suppresses = pairwise_iou(boxes[..., first:last, :], boxes[..., :last, :]) > overlap
        if kinds is not None:
            suppresses &= kinds[..., first:last, None] == kinds[..., None, :last]
        by_whom = suppresses.tril(first - 1).float()  # [batch, box of the block, surer box]
        # Products of matrices are far quicker than looking whether there is `any`.
        free = (by_whom[..., :first] @ kept == 0).float()
        settled = free
        for _ in range(min(ROUNDS, last - first)):
            settled = free * (by_whom[..., first:] @ settled == 0)
        kept = torch.cat((kept, settled), dim=-2)
    return kept[..., 0] > 0
