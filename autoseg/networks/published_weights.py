"""Weights that others published, by our names: SegFormers' and ResNets'.

SegFormers as Hugging Face lays them out, ResNets as torchvision and timm do. Kernels of images
become kernels of volumes, and those of three colours kernels of any number of channels.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Tensors = Mapping[str, torch.Tensor]
Rename = Callable[[str], str | None]

COLOURS = 3
SEGFORMER = re.compile(r"(?:segformer\.)?encoder\.(patch_embeddings|block|layer_norm)\.(\d+)\.(.+)")
SEGFORMER_LAYERS = {
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.self.sr": "attention.reduce",
    "attention.self.layer_norm": "attention.reduce_norm",
    "attention.output.dense": "attention.out",
    "mlp.dense1": "ffn.widen",
    "mlp.dwconv.dwconv": "ffn.depthwise",
    "mlp.dense2": "ffn.narrow",
}
EMBEDDING = {"proj": "embed", "layer_norm": "embed_norm"}
DECODER = re.compile(r"decode_head\.linear_c\.(\d+)\.proj\.(.+)")
FUSE = "decode_head.linear_fuse.weight"
RESNET = re.compile(
    r"(?:module\.|backbone\.|encoder\.)?((?:conv1|bn1|layer[1-4]\..+)\.(?:weight|bias))"
)


@dataclass(frozen=True, slots=True)
class Publication:
    """A layout that is known: its name, our names for its weights, and what sees the colours."""

    name: str
    our_name: Rename
    first: str


def segformer_name(theirs: str) -> str | None:
    """Our name for a weight of a SegFormer; None for one that we have no place for."""
    if theirs == FUSE:
        return "decoder.fuse.weight"
    decoder = DECODER.fullmatch(theirs)
    if decoder is not None:
        return f"decoder.project.{decoder[1]}.{decoder[2]}"
    match = SEGFORMER.fullmatch(theirs)
    if match is None:
        return None
    part, stage, rest = match.groups()
    if part == "layer_norm":
        return f"encoder.{stage}.norm.{rest}"
    layer, _, parameter = rest.rpartition(".")
    if part == "patch_embeddings":
        return f"encoder.{stage}.{EMBEDDING[layer]}.{parameter}" if layer in EMBEDDING else None
    block, _, inner = layer.partition(".")
    ours = SEGFORMER_LAYERS.get(inner)
    return f"encoder.{stage}.blocks.{block}.{ours}.{parameter}" if ours else None


def resnet_name(theirs: str) -> str | None:
    """Our name for a weight of a ResNet; None for moments of norms, and for the classifier."""
    match = RESNET.fullmatch(theirs)
    return f"encoder.{match[1]}" if match else None


PUBLICATIONS: dict[str, Publication] = {
    "segformer": Publication("Hugging Face's SegFormer", segformer_name, "encoder.0.embed.weight"),
    "deeplabv3plus": Publication(
        "torchvision's or timm's ResNet", resnet_name, "encoder.conv1.weight"
    ),
}


def converted(
    published: Tensors, own: Tensors, publication: Publication
) -> dict[str, torch.Tensor]:
    """Published weights that a network has a place for, as its own are shaped, by its names."""
    found = {}
    for theirs, weight in published.items():
        name = publication.our_name(theirs)
        if name is None or name not in own:
            continue
        shape = own[name].shape
        if weight.ndim > 1:
            weight = inflated(weight.float(), shape)
            if name == publication.first and weight.shape[1] == COLOURS:
                weight = for_channels(weight, shape[1])
        if weight.shape == shape:
            found[name] = weight.to(own[name].dtype)
    return found


def inflated(kernel: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Kernels [feature, channel, y, x] as those of volumes, which give the same of slices that are
    all alike (Carreira & Zisserman 2017, arXiv:1705.07750); as they are where they need not be."""
    if kernel.ndim != 4 or len(shape) != 5:
        return kernel
    depth = shape[2]
    return kernel[:, :, None].repeat(1, 1, depth, 1, 1) / depth


def for_channels(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """Kernels of three colours for other channels: of grey images that are all alike they give the
    same. Three channels keep theirs."""
    if channels == COLOURS:
        return kernel
    mean = kernel.sum(1, keepdim=True) / channels
    return mean.repeat(1, channels, *[1] * (kernel.ndim - 2))
