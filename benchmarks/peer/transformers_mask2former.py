"""Both decoders and the loss of transformers' Mask2Former, with weights, features and points that
are drawn so that anybody can draw them again.

Runs in an environment of its own: python transformers_mask2former.py FILE.npz tiny|published
"""

import json
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import Mask2FormerConfig
from transformers.models.mask2former import modeling_mask2former as peer

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "channels": [6, 8, 10, 12], "edge": 16, "classes": 3, "queries": 7, "points": 40,
        "feature_size": 32, "encoder_feedforward_dim": 24, "encoder_layers": 2,
        "num_attention_heads": 4, "dim_feedforward": 20, "decoder_layers": 5,
    },
    "published": {
        "channels": [256, 512, 1024, 2048], "edge": 64, "classes": 80, "queries": 100,
        "points": 12544, "feature_size": 256, "encoder_feedforward_dim": 1024,
        "encoder_layers": 6, "num_attention_heads": 8, "dim_feedforward": 2048,
        "decoder_layers": 10,
    },
}  # fmt: skip
BATCH = 2


def drawn_weights(module: torch.nn.Module) -> dict[str, list[int]]:
    """Give parameters normal numbers, in the order of their names, and say their shapes."""
    rng = np.random.RandomState(0)
    shapes = {}
    for name, parameter in sorted(module.named_parameters()):
        shapes[name] = list(parameter.shape)
        scale = 0.5 / max(1, parameter.shape[-1]) ** 0.5 if parameter.ndim > 1 else 0.2
        values = rng.normal(size=parameter.shape) * scale + ("norm.weight" in name)
        parameter.data.copy_(torch.from_numpy(values))
    return shapes


def drawn_features(channels: list[int], edge: int) -> list[torch.Tensor]:
    rng = np.random.RandomState(1)
    shapes = [(BATCH, width, edge >> i, edge >> i) for i, width in enumerate(channels)]
    return [torch.from_numpy(rng.normal(size=shape)).float() for shape in shapes]


def drawn_masks(edge: int) -> list[torch.Tensor]:
    """Masks of each sample [mask, y, x]: rectangles, at four times the resolution of masks."""
    rng = np.random.RandomState(2)
    found = []
    for count in (3, 2):
        masks = np.zeros((count, 4 * edge, 4 * edge), np.float32)
        for index in range(count):
            y, x = rng.randint(0, 3 * edge, 2)
            masks[:, y : y + edge, x : x + edge] = 0  # of one voxel there is one mask
            masks[index, y : y + edge, x : x + edge] = 1
        found.append(torch.from_numpy(masks))
    return found


def drawn_points(count: int, points: int) -> torch.Tensor:
    """Of `count` rows the first ones are those of fewer."""
    return torch.from_numpy(np.random.RandomState(points).random_sample((count, points, 2))).float()


class Points:
    """Stands in for `torch.rand`: the matcher asks for one sample's points, then the next one's."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, count: int, points: int, _: int, device: object = None) -> torch.Tensor:
        if count > 1:
            return drawn_points(count, points)
        self.asked += 1
        return drawn_points(BATCH, points)[[(self.asked - 1) % BATCH]]


def main(path: str, name: str) -> None:
    size = dict(SIZES[name])
    channels, edge, classes = size.pop("channels"), size.pop("edge"), size.pop("classes")
    points, queries = size.pop("points"), size.pop("queries")
    config = Mask2FormerConfig(
        num_labels=classes, num_queries=queries, train_num_points=points, dropout=0.0,
        mask_feature_size=size["feature_size"], hidden_dim=size["feature_size"], **size,
    )  # fmt: skip
    network = torch.nn.ModuleDict(
        {
            "pixels": peer.Mask2FormerPixelDecoder(config, channels),
            "decoder": peer.Mask2FormerTransformerModule(size["feature_size"], config),
            "classes": torch.nn.Linear(size["feature_size"], classes + 1),
        }
    ).eval()
    shapes = drawn_weights(network)
    with torch.no_grad():
        seen = network["pixels"](drawn_features(channels, edge))
        found = network["decoder"](seen.multi_scale_features, seen.mask_features)
        masks = list(found.masks_queries_logits)
        logits = [network["classes"](h.transpose(0, 1)) for h in found.intermediate_hidden_states]
    targets, of_class = drawn_masks(edge), [torch.tensor([2, 0, 2]), torch.tensor([1, 1])]
    criterion = peer.Mask2FormerLoss(config, {})
    auxiliary = [
        {"masks_queries_logits": m, "class_queries_logits": c}
        for m, c in zip(masks[:-1], logits[:-1], strict=True)
    ]
    with patch.object(torch, "rand", Points()):
        losses = criterion(masks[-1], logits[-1], targets, of_class, auxiliary)
        pairs = criterion.matcher(masks[-1], logits[-1], targets, of_class)
    kept = {"masks": torch.stack(masks), "classes": torch.stack(logits)}
    kept |= {f"attended.{i}": x for i, x in enumerate(seen.multi_scale_features)}
    kept |= {"mask_features": seen.mask_features}
    kept |= {f"pairs.{i}": torch.stack(pair) for i, pair in enumerate(pairs)}
    arrays: dict[str, Any] = {key: value.numpy() for key, value in kept.items()}
    told = {
        "size": SIZES[name], "shapes": shapes, "losses": {k: float(v) for k, v in losses.items()},
    }  # fmt: skip
    np.savez_compressed(path, told=json.dumps(told), **arrays)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
