"""Deformable attention over several resolutions, after Zhu et al. 2021 (arXiv:2010.04159), in plain
torch, in 2D and 3D.

Places are shares of a map's extent, from 0 at its first edge to 1 at its last, along (x, y) or
(x, y, z): the reverse of a map's axes, as torch samples.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch import nn
from torch.nn import functional


def sampled_at(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values [n, feature, row, point] of maps [n, feature, *space] at places [n, row, point, axis],
    interpolated linearly between the centres of voxels; beyond the map all is 0."""
    dims = places.shape[-1]
    if dims == 3 and _becomes_a_graph():
        return _gathered(maps, places)  # graphs of other engines cannot sample volumes
    grid = (2 * places - 1).view(*places.shape[:3], *[1] * (dims - 2), dims)
    found = functional.grid_sample(maps, grid, mode="bilinear", align_corners=False)
    return found.view(*found.shape[:4])


def _becomes_a_graph() -> bool:
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(traced or torch.compiler.is_exporting())


def _gathered(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The same, of the voxels around each place one after another."""
    batch, features, *size = maps.shape
    flat = maps.flatten(2)
    found = torch.zeros((), device=maps.device)
    for index, weight in corners(size, places):
        index = index.flatten(1)[:, None].expand(-1, features, -1)
        values = flat.gather(2, index).view(batch, features, *weight.shape[1:])
        found = found + values * weight[:, None]
    return found


def corners(
    size: Sequence[int], places: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The voxels around places [..., axis]: their indices [...] in a flat map of a size, and the
    weights that linear interpolation gives them, 0 beyond the map."""
    spots = [places[..., i] * n - 0.5 for i, n in enumerate(reversed(size))]
    steps = [prod(size[len(size) - i :]) for i in range(len(size))]
    for sides in product((0, 1), repeat=len(size)):
        index, weight = torch.zeros((), device=places.device), torch.ones((), device=places.device)
        for spot, side, n, step in zip(spots, sides, reversed(size), steps, strict=True):
            at = spot.floor() + side
            share = 1 - (spot - at).abs()
            weight = weight * share * ((at >= 0) & (at < n))
            index = index + at.clamp(0, n - 1) * step
        yield index.long(), weight


def centres(sizes: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Places [token, axis] of the voxels of maps of several sizes, one map after another."""
    found = []
    for size in sizes:
        along = [(torch.arange(n, device=device) + 0.5) / n for n in size]
        grid = torch.meshgrid(*along, indexing="ij")
        found.append(torch.stack(grid[::-1], dim=-1).flatten(0, -2))
    return torch.cat(found)


class DeformableAttention(nn.Module):
    """Each token looks at a few learned places around it, at every resolution.

    Offsets are in voxels of the resolution that they are at.
    """

    def __init__(self, features: int, heads: int, levels: int, points: int, dims: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points, self.dims = heads, levels, points, dims
        self.offsets = nn.Linear(features, heads * levels * points * dims)
        self.weights = nn.Linear(features, heads * levels * points)
        self.value, self.out = nn.Linear(features, features), nn.Linear(features, features)
        self._initialize()

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, sizes: Sequence[torch.Size]
    ) -> torch.Tensor:
        """What queries [batch, token, feature] find among tokens, those of maps of all sizes."""
        batch, count, width = tokens.shape
        shape = (batch, count, self.heads, self.levels, self.points)
        offsets = self.offsets(queries).float().view(*shape, self.dims)
        weights = self.weights(queries).float().view(batch, count, self.heads, -1).softmax(-1)
        values = self.value(tokens).float().view(batch, count, self.heads, -1)
        here = centres(sizes, tokens.device).view(1, count, 1, 1, self.dims)
        found = []
        maps = values.split([prod(size) for size in sizes], dim=1)
        for level, (size, own) in enumerate(zip(sizes, maps, strict=True)):
            steps = [offsets[:, :, :, level, :, i] / n for i, n in enumerate(reversed(size))]
            places = (here + torch.stack(steps, dim=-1)).transpose(1, 2).flatten(0, 1)
            by_head = own.permute(0, 2, 3, 1).reshape(batch * self.heads, -1, *size)
            found.append(sampled_at(by_head, places))  # [batch x head, feature, token, point]
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
        mixed = (torch.cat(found, dim=-1) * weights).sum(-1)  # [batch x head, feature, token]
        mixed = mixed.view(batch, width, count).transpose(1, 2).to(tokens)
        result: torch.Tensor = self.out(mixed)
        return result

    def _initialize(self) -> None:
        """Every head begins by looking in a direction of its own, its points ever further."""
        nn.init.zeros_(self.offsets.weight)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        ways = _directions(self.heads, self.dims).view(self.heads, 1, 1, self.dims)
        begun = (ways * steps).expand(self.heads, self.levels, self.points, self.dims)
        with torch.no_grad():
            self.offsets.bias.copy_(begun.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def _directions(count: int, dims: int) -> torch.Tensor:
    """So many directions [direction, axis], evenly around a circle, or on a spiral over a sphere;
    the largest coordinate of each is 1."""
    index = torch.arange(count, dtype=torch.float32)
    if dims == 2:
        angle = index * (2 * math.pi / count)
        ways = torch.stack((angle.cos(), angle.sin()), dim=-1)
    else:
        height = 1 - (2 * index + 1) / count
        angle, radius = index * math.pi * (3 - math.sqrt(5)), (1 - height**2).sqrt()
        ways = torch.stack((radius * angle.cos(), radius * angle.sin(), height), dim=-1)
    return ways / ways.abs().amax(-1, keepdim=True)


class DeformableLayer(nn.Module):
    """Deformable attention of all tokens to each other, then two layers; norms come after."""

    def __init__(self, attention: DeformableAttention, features: int, hidden: int) -> None:
        super().__init__()
        self.attention = attention
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.widen, self.narrow = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(
        self, tokens: torch.Tensor, where: torch.Tensor, sizes: Sequence[torch.Size]
    ) -> torch.Tensor:
        tokens = self.norm1(tokens + self.attention(tokens + where, tokens, sizes))
        result: torch.Tensor = self.norm2(tokens + self.narrow(self.widen(tokens).relu()))
        return result
