"""Our parts of Mask2Former with the weights that benchmarks/peer/transformers_mask2former.py draws
for those of transformers, drawn here again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoseg.networks.mask_queries import QueryDecoder
from autoseg.networks.pixel_decoder import PixelDecoder
from autoseg.planning.network_plan import QueryNetworkPlan, StagePlan

Shapes = Mapping[str, list[int]]
Weights = dict[str, torch.Tensor]
DEFORMABLE = {
    "self_attn.sampling_offsets": "attention.offsets",
    "self_attn.attention_weights": "attention.weights",
    "self_attn.value_proj": "attention.value",
    "self_attn.output_proj": "attention.out",
    "self_attn_layer_norm": "norm1",
    "fc1": "widen",
    "fc2": "narrow",
    "final_layer_norm": "norm2",
}
QUERY = {
    "cross_attn.out_proj": "across.out",
    "cross_attn_layer_norm": "norm1",
    "self_attn.q_proj": "among.query",
    "self_attn.k_proj": "among.key",
    "self_attn.v_proj": "among.value",
    "self_attn.out_proj": "among.out",
    "self_attn_layer_norm": "norm2",
    "fc1": "widen",
    "fc2": "narrow",
    "final_layer_norm": "norm3",
}
MASK = {"0.0": "0", "1.0": "2", "2.0": "4"}


@dataclass(frozen=True, slots=True)
class Published:
    """Both decoders, and the features that they are given."""

    plan: QueryNetworkPlan
    pixels: PixelDecoder
    decoder: QueryDecoder
    features: list[torch.Tensor]


def published(told: str) -> Published:
    """What a file of the peer is of."""
    content = json.loads(told)
    size, theirs = content["size"], drawn_weights(content["shapes"])
    plan = plan_of_size(size)
    pixels, decoder = PixelDecoder(plan), QueryDecoder(plan, size["classes"])
    pixels.load_state_dict(pixel_weights(theirs, plan))
    decoder.load_state_dict(query_weights(theirs, plan))
    features = drawn_features(size["channels"], size["edge"])
    return Published(plan, pixels.eval(), decoder.eval(), features)


def drawn_weights(shapes: Shapes) -> Weights:
    rng = np.random.RandomState(0)
    found = {}
    for name, shape in shapes.items():
        scale = 0.5 / max(1, shape[-1]) ** 0.5 if len(shape) > 1 else 0.2
        values = rng.normal(size=shape) * scale + ("norm.weight" in name)
        found[name] = torch.from_numpy(values).float()
    return found


def drawn_features(channels: list[int], edge: int) -> list[torch.Tensor]:
    rng = np.random.RandomState(1)
    shapes = [(2, width, edge >> i, edge >> i) for i, width in enumerate(channels)]
    return [torch.from_numpy(rng.normal(size=shape)).float() for shape in shapes]


def drawn_places(count: int, points: int, dims: int, device: torch.device) -> torch.Tensor:
    found = np.random.RandomState(points).random_sample((count, points, dims))
    return torch.from_numpy(found).float()


def drawn_numbers(edge: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The masks of both samples, numbered from 0 in their order [batch, y, x], -2 where there is
    none; and their classes [batch, mask], -1 where there are fewer."""
    rng = np.random.RandomState(2)
    found = np.full((2, 4 * edge, 4 * edge), -2)
    for numbers, count in zip(found, (3, 2), strict=True):
        for index in range(count):
            y, x = rng.randint(0, 3 * edge, 2)
            numbers[y : y + edge, x : x + edge] = index
    return torch.from_numpy(found), torch.tensor([[2, 0, 2], [1, 1, -1]])


def plan_of_size(size: Mapping[str, Any]) -> QueryNetworkPlan:
    stages = tuple(
        StagePlan(
            features=width, kernel_size=(3, 3), stride=(1, 1) if i == 0 else (2, 2), blocks=1,
            decoder_blocks=0,
        )
        for i, width in enumerate(size["channels"])
    )  # fmt: skip
    return QueryNetworkPlan(
        stages=stages, bias=True, mask_level=0, attended=3, pixel_decoder="deformable",
        attention="masked", features=size["feature_size"], heads=size["num_attention_heads"],
        pixel_layers=size["encoder_layers"], pixel_hidden=size["encoder_feedforward_dim"],
        sampled_points=4, queries=size["queries"], query_layers=size["decoder_layers"] - 1,
        query_hidden=size["dim_feedforward"],
    )  # fmt: skip


def pixel_weights(theirs: Weights, plan: QueryNetworkPlan) -> Weights:
    named = {"level_embed": theirs["pixels.level_embed"]}
    for level in range(plan.attended):
        named |= _renamed(theirs, f"pixels.input_projections.{level}", f"project.{level}")
    for index in range(plan.pixel_layers):
        for old, new in DEFORMABLE.items():
            source = f"pixels.encoder.layers.{index}.{old}"
            named |= _renamed(theirs, source, f"layers.{index}.{new}")
    named |= _renamed(theirs, "pixels.adapter_1", "lateral.0")
    named |= _renamed(theirs, "pixels.layer_1", "smooth.0")
    return named | _renamed(theirs, "pixels.mask_projection", "mask_features")


def query_weights(theirs: Weights, plan: QueryNetworkPlan) -> Weights:
    named: Weights = {}
    top = "decoder.decoder"
    for index in range(plan.query_layers):
        layer = f"{top}.layers.{index}"
        for old, new in QUERY.items():
            named |= _renamed(theirs, f"{layer}.{old}", f"layers.{index}.{new}")
        for kind in ("weight", "bias"):
            parts = theirs[f"{layer}.cross_attn.in_proj_{kind}"].chunk(3)
            for part, value in zip(("query", "key", "value"), parts, strict=True):
                named[f"layers.{index}.across.{part}.{kind}"] = value
    for old, new in MASK.items():
        named |= _renamed(theirs, f"{top}.mask_predictor.mask_embedder.{old}", f"mask.{new}")
    named |= _renamed(theirs, f"{top}.layernorm", "norm")
    named |= {
        "features.weight": theirs["decoder.queries_features.weight"],
        "places.weight": theirs["decoder.queries_embedder.weight"],
        "level_embed.weight": theirs["decoder.level_embed.weight"],
    }
    for kind in ("weight", "bias"):
        named[f"classes.{kind}"] = theirs[f"classes.{kind}"][:-1]
        named[f"no_object.{kind}"] = theirs[f"classes.{kind}"][-1:]
    return named


def _renamed(theirs: Weights, old: str, new: str) -> Weights:
    """All that lies under a name, under another."""
    start = f"{old}."
    return {f"{new}.{k.removeprefix(start)}": v for k, v in theirs.items() if k.startswith(start)}
