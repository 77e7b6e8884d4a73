"""Muon: steps that change all directions of a layer's weights by as much.

The momentum of a matrix is dominated by a few directions. Made orthogonal, it moves the weak ones
as far as the strong (Jordan et al. 2024, kellerjordan.github.io/posts/muon). What is no matrix,
such as norms and biases, follows AdamW. Published for hidden layers; here the first layer and the
heads are turned too, as measured.
"""

from math import sqrt
from typing import Any

import torch
from torch import nn

ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0, as published
SMALLEST_NORM = 1e-7
LIKE_ADAM = 0.2  # the root mean square of AdamW's steps, so that its rates fit
DENSE_LAYERS = (
    nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class Muon(torch.optim.AdamW):
    """AdamW, but for groups that have a `momentum`: their weights are matrices [rows, rest].

    These follow their orthogonal Nesterov momentum, as far as a step of AdamW goes (Liu et al.
    2025, arXiv:2502.16982), and lose their gradients in `step`. Weight decay is decoupled. Where
    `found_inf` is 1, as torch's fused optimisers have it, nothing changes.
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__([{"momentum": None} | group for group in groups], **options)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None, "the loss is not looked at again"
        for group in self.param_groups:
            if group["momentum"] is not None:
                for weights in group["params"]:
                    if weights.grad is not None:
                        self._step_of_matrix(weights, weights.grad, group)
                        weights.grad = None
        super().step()

    def _step_of_matrix(
        self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        state, momentum, rate = self.state[weights], group["momentum"], group["lr"]
        if not state:
            state["step"] = torch.zeros((), device=weights.device)  # AdamW asks all states for it
            state["momentum_buffer"] = torch.zeros_like(weights)
        buffer = state["momentum_buffer"]
        skipped = getattr(self, "found_inf", None)
        if skipped is not None:
            rate = rate * (1 - skipped)
            gradient = torch.where(skipped > 0, buffer, gradient)
        buffer.lerp_(gradient, 1 - momentum)
        ahead = torch.lerp(gradient, buffer, momentum).flatten(1)
        change = orthogonal(ahead).view_as(weights) * (LIKE_ADAM * sqrt(max(ahead.shape)))
        weights.mul_(1 - rate * group["weight_decay"]).sub_(rate * change)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix of the same singular vectors, whose singular values are about 1 (0.7 to 1.2), but
    for those under a hundredth of the matrix's norm, which become up to 500 times that share.

    Newton and Schulz's iteration, of the matrix's products with itself alone, which are small.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / matrix.norm().clamp(min=SMALLEST_NORM)
    product = matrix @ matrix.T
    identity = torch.eye(len(product), dtype=product.dtype, device=product.device)
    a, b, c = QUINTIC
    polynomial = factor = a * identity + b * product + c * product @ product
    for _ in range(ITERATIONS - 1):
        product = factor @ product @ factor
        factor = a * identity + b * product + c * product @ product
        polynomial = factor @ polynomial
    return polynomial @ matrix


def is_dense(layer: nn.Module) -> bool:
    """Whether a layer's weights are one matrix, from all its inputs to all its outputs."""
    return isinstance(layer, DENSE_LAYERS) and getattr(layer, "groups", 1) == 1
