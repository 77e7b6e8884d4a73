"""Mask2Former (Cheng et al. 2022, arXiv:2112.01527) and MaskFormer (Cheng et al. 2021,
arXiv:2107.06278), in 2D and 3D.

Each of a fixed number of queries finds one mask and its class, or nothing. A network takes
[batch, channel, *patch], a multiple of all strides, and gives scores [batch, class, *patch]; with
`all_resolutions` a list of `QueryOutputs`, those of its last layer first, that it learns from.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from autoseg.networks.blocks import ConvShape, ResidualBlock, conv_norm_act, initialize, resized
from autoseg.networks.cells import mean_in_cells, middles_of, squared_distances
from autoseg.networks.pixel_decoder import PixelDecoder, sine_positions
from autoseg.networks.unet import encode, encoder_stages
from autoseg.planning.network_plan import QueryNetworkPlan

LEAST_SHARE = 1e-6  # of a voxel, that a class is said to have


class QueryOutputs(NamedTuple):
    """Logits of classes [batch, query, class + 1], the last of them of no object, and of masks
    [batch, query, *space], at the masks' resolution."""

    classes: torch.Tensor
    masks: torch.Tensor


def class_scores(found: QueryOutputs) -> torch.Tensor:
    """Logarithms of how much of each voxel the queries give to each class [batch, class, *space].

    That is the sum of a query's probability of the class times that of its mask (section 3.4 of
    MaskFormer)."""
    probability = found.classes.float().softmax(-1)[..., :-1]
    masks = found.masks.float().sigmoid()
    share = probability.transpose(1, 2) @ masks.flatten(2)  # [batch, class, voxel]
    return share.clamp_min(LEAST_SHARE).log().view(*share.shape[:2], *masks.shape[2:])


class MaskQueries(nn.Module):
    """A residual encoder, a pixel decoder, and a decoder of queries."""

    def __init__(self, plan: QueryNetworkPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        top = plan.stages[0]
        ones = (1,) * len(top.kernel_size)
        first = ConvShape(in_channels, top.features, top.kernel_size, ones, plan.bias)
        self.stem = conv_norm_act(first)
        self.encoder = encoder_stages(ResidualBlock, plan.stages, top.features, plan.bias)
        self.pixels = PixelDecoder(plan)
        self.decoder = QueryDecoder(plan, class_count)
        for part in (self.stem, self.encoder):
            part.apply(initialize)

    def forward(
        self, image: torch.Tensor, all_resolutions: bool = False
    ) -> torch.Tensor | list[QueryOutputs]:
        layers = self.found(image)
        if all_resolutions:
            return layers
        return resized(class_scores(layers[0]), image.shape[2:])

    def found(self, image: torch.Tensor) -> list[QueryOutputs]:
        """What queries find after each layer, the last first, and before any."""
        attended, mask_features = self.pixels(encode(self.encoder, self.stem(image)))
        layers: list[QueryOutputs] = self.decoder(attended, mask_features)
        return layers

    def packed(self, image: torch.Tensor) -> torch.Tensor:
        """What queries find in the end, as `packed_queries` has it."""
        return packed_queries(self.found(image)[0])


def packed_queries(found: QueryOutputs) -> torch.Tensor:
    """As one tensor [batch, query, class + 1 + voxel], which any engine can give."""
    return torch.cat((found.classes, found.masks.flatten(2)), dim=2)


@runtime_checkable
class PacksObjects(Protocol):
    """A network whose answer is objects."""

    def packed(self, image: torch.Tensor) -> torch.Tensor:
        """What it finds in patches, as one tensor; its plan's `QueryLayout` says how."""


class PackedQueries(nn.Module):
    """What each query, box or candidate of a network finds, as one tensor that any engine can give.

    For a patch [batch, channel, *patch] it is [batch, query, class + 1 + voxel]: logits of the
    classes and of none, then those of the mask; rows of classes may follow.
    """

    def __init__(self, network: "PacksObjects") -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.packed(image)


class QueryDecoder(nn.Module):
    """Queries look at the maps in turn, each within the mask that it has found so far.

    Those that begin in cells find masks around them: logits fall with the squared distance, as
    steeply as each query says, so that from the first steps on queries find different objects
    (Gao et al. 2021, arXiv:2101.07448, for attention).
    """

    def __init__(self, plan: QueryNetworkPlan, class_count: int) -> None:
        super().__init__()
        width = plan.features
        self.masked = plan.attention == "masked"
        self.cells = plan.cells
        if plan.cells:
            self.steepness = nn.Linear(width, 1)
        else:
            self.features = nn.Embedding(plan.queries, width)
            self.places = nn.Embedding(plan.queries, width)
        self.level_embed = nn.Embedding(plan.attended if self.masked else 1, width)
        self.layers = nn.ModuleList(
            QueryLayer(width, plan.heads, plan.query_hidden) for _ in range(plan.query_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.classes, self.no_object = nn.Linear(width, class_count), nn.Linear(width, 1)
        self.mask = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width),
        )  # fmt: skip

    def forward(
        self, maps: Sequence[torch.Tensor], mask_features: torch.Tensor
    ) -> list[QueryOutputs]:
        maps = maps[: self.level_embed.num_embeddings]
        values = [
            x.flatten(2).transpose(1, 2) + level
            for x, level in zip(maps, self.level_embed.weight.unbind(), strict=True)
        ]  # [batch, token, feature]
        keys = [value + _positions(x) for x, value in zip(maps, values, strict=True)]
        if self.cells:
            queries = mean_in_cells(maps[-1], self.cells)
            where = sine_positions(maps[-1].shape[2:], maps[-1].shape[1], maps[-1].device)
            places = mean_in_cells(where[None].to(maps[-1]), self.cells)
            middles = middles_of([self.cells], mask_features.device)
            away = squared_distances(*middles, mask_features.shape[2:])
        else:
            queries = self.features.weight.expand(mask_features.shape[0], -1, -1)
            places, away = self.places.weight, None
        outputs = [self._outputs(queries, mask_features, away)]
        for index, layer in enumerate(self.layers):
            level = index % len(maps)
            seen = None
            if self.masked:
                seen = within_masks(outputs[-1].masks, maps[level].shape[2:])
            queries = layer(queries, places, (keys[level], values[level]), seen)
            outputs.append(self._outputs(queries, mask_features, away))
        return outputs[::-1]

    def _outputs(
        self, queries: torch.Tensor, mask_features: torch.Tensor, away: torch.Tensor | None
    ) -> QueryOutputs:
        queries = self.norm(queries)
        classes = torch.cat((self.classes(queries), self.no_object(queries)), dim=-1)
        masks = torch.bmm(self.mask(queries), mask_features.flatten(2)).float()
        if away is not None:
            masks = masks - functional.softplus(self.steepness(queries).float()) * away
        masks = masks.view(*masks.shape[:2], *mask_features.shape[2:])
        return QueryOutputs(classes.float(), masks)


def _positions(x: torch.Tensor) -> torch.Tensor:
    """[token, feature]"""
    return sine_positions(x.shape[2:], x.shape[1], x.device).flatten(1).T.to(x)


def within_masks(masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Which tokens of a map of a size each query may look at [batch, 1, query, token]: those within
    its mask [batch, query, *space], or all where there are none (equations 2 and 3)."""
    inside = resized(masks.detach(), size).flatten(2) >= 0
    nowhere = ~inside.any(-1, keepdim=True)
    return (inside | nowhere)[:, None]


class QueryLayer(nn.Module):
    """Queries look at a map, then at each other, then two layers; norms come after."""

    def __init__(self, features: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.across, self.among = Attention(features, heads), Attention(features, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(features) for _ in range(3))
        self.widen, self.narrow = nn.Linear(features, hidden), nn.Linear(hidden, features)
        for layer in (self.widen, self.narrow):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        queries: torch.Tensor,
        places: torch.Tensor,
        memory: tuple[torch.Tensor, torch.Tensor],
        seen: torch.Tensor | None,
    ) -> torch.Tensor:
        keys, values = memory
        queries = self.norm1(queries + self.across(queries + places, keys, values, seen))
        placed = queries + places
        queries = self.norm2(queries + self.among(placed, placed, queries))
        result: torch.Tensor = self.norm3(queries + self.narrow(self.widen(queries).relu()))
        return result


class Attention(nn.Module):
    """Multi-head attention of queries [batch, query, feature] to keys and values."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.out = nn.Linear(features, features)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        seen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        mixed = functional.scaled_dot_product_attention(
            self._by_head(self.query(queries)),
            self._by_head(self.key(keys)),
            self._by_head(self.value(values)),
            attn_mask=seen,
        )  # [batch, head, query, feature]
        result: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _by_head(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        return tokens.view(batch, count, self.heads, width // self.heads).transpose(1, 2)
