"""A resolution of a network, which the records of all families are made of."""

from collections.abc import Sequence

from autoseg.planning.topology import divisor_of
from autoseg.records import Record

PerAxis = tuple[int, ...]


class StagePlan(Record):
    """One resolution of the network; `stride` leads into it. The lowest has no decoder."""

    features: int
    kernel_size: PerAxis
    stride: PerAxis
    blocks: int
    decoder_blocks: int


def stride_of(stages: Sequence[StagePlan]) -> PerAxis:
    """That of the last of some stages to the patch."""
    return divisor_of(stage.stride for stage in stages)
