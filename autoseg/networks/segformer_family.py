"""SegFormer as a family: what planning asks about it, without torch."""

import re
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import PerAxis, SegFormerPlan, TransformerStage
from autoseg.planning.search import PatchSearch
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import FinestStride, Topology, divisor_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class MixTransformer:
    """A published size: blocks and features of its four stages, and the decoder's features."""

    blocks: tuple[int, ...]
    features: tuple[int, ...]
    decoder_features: int


WIDE = (64, 128, 320, 512)
SIZES = {
    "b0": MixTransformer((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "b1": MixTransformer((2, 2, 2, 2), WIDE, 256),
    "b2": MixTransformer((3, 4, 6, 3), WIDE, 768),
    "b3": MixTransformer((3, 4, 18, 3), WIDE, 768),
    "b4": MixTransformer((3, 8, 27, 3), WIDE, 768),
    "b5": MixTransformer((3, 6, 40, 3), WIDE, 768),
}
HEADS = (1, 2, 5, 8)
MLP_RATIO, DROP_PATH, DROPOUT = 4, 0.1, 0.1
EMBEDDING_KERNELS = {1: 3, 2: 3, 4: 7}  # by stride
STAGE = re.compile(r"encoder\.(\d+)\.")


def plan_segformer(topology: Topology, patch: PerAxis, search: PatchSearch) -> SegFormerPlan:
    """A published size, whose four strides follow spacing and patch: at most 4, 2, 2, 2,
    or 2, 2, 2, 2."""
    size = SIZES[search.network.size_of(SIZES)]
    return segformer_of(size, topology, search.network.finest_stride)


def segformer_of(
    size: MixTransformer, topology: Topology, finest_stride: FinestStride = 4
) -> SegFormerPlan:
    """A network of a size, in as many dimensions as the strides have."""
    return SegFormerPlan(
        stages=transformer_stages(size, topology, finest_stride),
        mlp_ratio=MLP_RATIO,
        decoder_features=size.decoder_features,
        drop_path=DROP_PATH,
        dropout=DROPOUT,
    )


def transformer_stages(
    size: MixTransformer, topology: Topology, finest_stride: FinestStride
) -> tuple[TransformerStage, ...]:
    """Stages whose attention looks at all of a patch at the lowest resolution there is. Axes that
    are still coarser than the others where a stage looks are not embedded across."""
    five = topology.from_finest(finest_stride)
    stem, pooling, *later = five.strides
    strides = [tuple(a * b for a, b in zip(stem, pooling, strict=True)), *later]
    ones = (1,) * len(stem)
    return tuple(
        TransformerStage(
            features=features,
            kernel_size=tuple(
                EMBEDDING_KERNELS[s] if s > 1 or k > 1 else 1
                for s, k in zip(stride, kernel, strict=True)
            ),
            stride=stride,
            blocks=blocks,
            decoder_blocks=0,
            heads=gcd(heads, features),
            reduction=divisor_of([ones, *strides[index + 1 :]]),
        )
        for index, (features, blocks, heads, stride, kernel) in enumerate(
            zip(size.features, size.blocks, HEADS, strides, five.kernel_sizes, strict=False)
        )
    )


def _build(plan: SegFormerPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.segformer import SegFormer  # torch takes seconds to import

    return SegFormer(plan, in_channels, class_count)


def _levels_from_output(plan: SegFormerPlan, name: str) -> int | None:
    """The decoder, then the encoder from its last stage to its first."""
    match = STAGE.match(name)
    return len(plan.stages) - int(match[1]) if match else 0


_COST = traced_cost_of(_build)
SEGFORMER = Family(
    build=_build,
    search=search_by(plan_segformer, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=lambda plan, name: name == "encoder.0.embed.weight",
    gives_outputs=lambda plan, name: name.startswith("decoder.head."),
    same_at_any_size=False,
    built_in=True,
)
