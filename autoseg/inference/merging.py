"""How outputs of overlapping patches become those of a scan."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from autoseg.errors import AutosegError
from autoseg.inference.restore import Span

BYTES_AT_ONCE = 2**26  # of finished logits


class Merger(Protocol):
    """Takes patches of a column in the order of their rows, and gives rows that are finished."""

    def add(self, logits: torch.Tensor, starts: Sequence[int]) -> None:
        """Take in a patch [output, z, y, x] that starts at (y, x)."""

    def means(self, low: int, high: int) -> Iterator[torch.Tensor]:
        """Finished rows [output, rows, y, x], a few at a time."""

    def advance(self, count: int) -> None:
        """Forget finished rows, and go on to those that follow."""

    def check(self) -> None:
        """Raise AutosegError where any of the rows so far was not finite."""


class DenseSums:
    """Weighted logits [output, depth, y, x] of a column, from the current row of patches on."""

    def __init__(self, depth: int, spans: Sequence[Span], weight: torch.Tensor) -> None:
        self.spans = spans
        self.weight = weight  # [z, y, x] of a patch
        self.shape = (depth, *(high - low for low, high in spans))
        self.total = torch.zeros(self.shape, device=weight.device)
        self.logits: torch.Tensor | None = None
        self.finite = torch.ones((), dtype=torch.bool, device=weight.device)

    def add(self, logits: torch.Tensor, starts: Sequence[int]) -> None:
        """Add a patch [output, z, y, x] that starts at (y, x)."""
        if self.logits is None:
            self.logits = logits.new_zeros((len(logits), *self.shape))
        inside, place = self._overlap(starts)
        weight = self.weight[:, *inside]
        self.logits[:, :, *place].addcmul_(logits[:, :, *inside], weight)
        self.total[:, *place] += weight

    def means(self, low: int, high: int) -> Iterator[torch.Tensor]:
        """Finished rows, a few at a time."""
        assert self.logits is not None
        row_bytes = 4 * self.logits[:, 0].numel()
        step = max(1, BYTES_AT_ONCE // row_bytes)
        for first in range(low, high, step):
            rows = slice(first, min(high, first + step))
            means = self.logits[:, rows] / self.total[rows]
            self.finite &= torch.isfinite(means.sum())
            yield means
            del means  # not held here any longer

    def advance(self, count: int) -> None:
        """Drop finished rows and append as many empty ones, in place."""
        assert self.logits is not None
        kept = self.shape[0] - count
        for rows in (*self.logits, self.total):
            for first in range(0, kept, count):  # blocks that do not overlap what replaces them
                last = min(kept, first + count)
                rows[first:last] = rows[first + count : last + count]
            rows[max(0, kept) :] = 0

    def check(self) -> None:
        """Asked at the end, since a device has to be waited for."""
        if not self.finite:
            raise AutosegError(
                "the network gave numbers that are not finite, so there is no mask. Try "
                "--precision fp32; where that does not help, its training has failed."
            )

    def _overlap(self, starts: Sequence[int]) -> tuple[list[slice], list[slice]]:
        """The part of a patch that lies in the column, and where in the column."""
        inside, place = [], []
        sizes = self.weight.shape[1:]
        for start, size, (low, high) in zip(starts, sizes, self.spans, strict=True):
            a, b = max(start, low), min(start + size, high)
            inside.append(slice(a - start, b - start))
            place.append(slice(a - low, b - low))
        return inside, place


# Given the depth of a patch, spans of y and x, and the weights of a patch.
MakeMerger = Callable[[int, Sequence[Span], torch.Tensor], Merger]
