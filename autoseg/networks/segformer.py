"""SegFormer after Xie et al. 2021 (arXiv:2105.15203), in 2D and 3D.

It takes [batch, channel, *patch], a multiple of all strides, and returns logits
[batch, class, *patch]. Within a stage voxels are tokens: [batch, token, feature].
"""

from collections.abc import Sequence
from math import gcd, prod

import torch
from torch import nn
from torch.nn import functional

from autoseg.networks.blocks import Conv, Dropout, resized
from autoseg.planning.network_plan import SegFormerPlan, TransformerStage

INITIAL_STD = 0.02
DECODER_GROUPS = 32


class SegFormer(nn.Module):
    """A mix transformer and a decoder of nothing but layers that see one voxel each."""

    def __init__(self, plan: SegFormerPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        widths = [in_channels, *(stage.features for stage in plan.stages)]
        rates = _drop_rates(plan)
        self.encoder = nn.ModuleList(
            MixTransformerStage(width, stage, plan.mlp_ratio, rate)
            for width, stage, rate in zip(widths, plan.stages, rates, strict=False)
        )
        self.decoder = MLPDecoder(plan, class_count)
        self.apply(_initialize)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = []
        x = image
        for stage in self.encoder:
            x = stage(x)
            features.append(x)  # [batch, feature, *resolution]
        logits: torch.Tensor = self.decoder(features)
        return resized(logits, image.shape[2:])


class MixTransformerStage(nn.Module):
    """Overlapping patches become tokens, which blocks relate; gives a map again."""

    def __init__(
        self, in_features: int, plan: TransformerStage, mlp_ratio: int, drop_rates: Sequence[float]
    ) -> None:
        super().__init__()
        padding = tuple(k // 2 for k in plan.kernel_size)
        self.embed = Conv[len(plan.stride)](
            in_features, plan.features, plan.kernel_size, plan.stride, padding=padding
        )
        self.embed_norm = nn.LayerNorm(plan.features)
        self.blocks = nn.ModuleList(Block(plan, mlp_ratio, rate) for rate in drop_rates)
        self.norm = nn.LayerNorm(plan.features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(image)
        size = embedded.shape[2:]
        tokens = self.embed_norm(_to_tokens(embedded))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _to_map(self.norm(tokens), size)


class Block(nn.Module):
    """Attention, then a mix-FFN, each added to what came in."""

    def __init__(self, plan: TransformerStage, mlp_ratio: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(plan.features), nn.LayerNorm(plan.features)
        self.attention = ReducedAttention(plan)
        self.ffn = MixFFN(plan, mlp_ratio)
        self.drop_path = DropPath(drop_rate)

    def forward(self, tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), size))
        result: torch.Tensor = tokens + self.drop_path(self.ffn(self.norm2(tokens), size))
        return result


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values are coarser by a strided convolution (equation 1)."""

    def __init__(self, plan: TransformerStage) -> None:
        super().__init__()
        width = plan.features
        self.heads = plan.heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.reduce: nn.Module | None = None
        if prod(plan.reduction) > 1:
            self.reduce = Conv[len(plan.reduction)](width, width, plan.reduction, plan.reduction)
            self.reduce_norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        seen = tokens
        if self.reduce is not None:
            seen = self.reduce_norm(_to_tokens(self.reduce(_to_map(tokens, size))))
        mixed = functional.scaled_dot_product_attention(
            self._by_head(self.query(tokens)),
            self._by_head(self.key(seen)),
            self._by_head(self.value(seen)),
        )  # [batch, head, token, feature]
        result: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _by_head(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        return tokens.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)


class MixFFN(nn.Module):
    """Two layers, and between them a depthwise convolution, whose padding tells where a token is
    (equation 3); across coarse slices it does not look, as embeddings do not."""

    def __init__(self, plan: TransformerStage, mlp_ratio: int) -> None:
        super().__init__()
        hidden = mlp_ratio * plan.features
        kernel = tuple(min(3, k) for k in plan.kernel_size)
        self.widen = nn.Linear(plan.features, hidden)
        self.depthwise = Conv[len(kernel)](
            hidden, hidden, kernel, padding=tuple(k // 2 for k in kernel), groups=hidden
        )
        self.narrow = nn.Linear(hidden, plan.features)

    def forward(self, tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        hidden = self.depthwise(_to_map(self.widen(tokens), size))
        result: torch.Tensor = self.narrow(functional.gelu(_to_tokens(hidden)))
        return result


class DropPath(nn.Module):
    """In training, leaves out all of some samples, and makes up for it in the others.

    Huang et al. 2016 (arXiv:1603.09382).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return tokens
        kept = torch.empty_like(tokens[:, :1, :1]).bernoulli_(1 - self.rate)  # [batch, 1, 1]
        return tokens * kept / (1 - self.rate)


class MLPDecoder(nn.Module):
    """Every resolution to one width and the highest resolution, then mixed voxel by voxel.

    The paper's batch norm is one of groups of features, since batches are small.
    """

    def __init__(self, plan: SegFormerPlan, class_count: int) -> None:
        super().__init__()
        width, count = plan.decoder_features, len(plan.stages)
        dims = len(plan.stages[0].stride)
        self.project = nn.ModuleList(nn.Linear(stage.features, width) for stage in plan.stages)
        self.fuse = Conv[dims](count * width, width, 1, bias=False)
        self.norm = nn.GroupNorm(gcd(DECODER_GROUPS, width), width)
        self.dropout = Dropout[dims](plan.dropout)
        self.head = Conv[dims](width, class_count, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        highest = features[0].shape[2:]
        maps = [
            resized(_to_map(project(_to_tokens(x)), x.shape[2:]), highest)
            for project, x in zip(self.project, features, strict=True)
        ]
        # The lowest resolution first, as in published weights.
        fused = self.norm(self.fuse(torch.cat(maps[::-1], dim=1))).relu()
        logits: torch.Tensor = self.head(self.dropout(fused))
        return logits


def _to_tokens(values: torch.Tensor) -> torch.Tensor:
    """A map [batch, feature, *space] as tokens [batch, token, feature]."""
    return values.flatten(2).transpose(1, 2)


def _to_map(tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Tokens [batch, token, feature] as a map [batch, feature, *size]."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def _drop_rates(plan: SegFormerPlan) -> list[list[float]]:
    """Of each block, rising from 0 to the plan's, by stage."""
    blocks = sum(stage.blocks for stage in plan.stages)
    rates = iter(plan.drop_path * index / max(1, blocks - 1) for index in range(blocks))
    return [[next(rates) for _ in range(stage.blocks)] for stage in plan.stages]


def _initialize(module: nn.Module) -> None:
    """As the authors' code does: normal weights, those of convolutions by what they give."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_out = prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
