"""A SegFormer of ours with weights that transformers made, as theirs computes."""

import torch
from torch import nn

from autoseg.networks.segformer import SegFormer


def logits_as_published(
    network: SegFormer, theirs: dict[str, torch.Tensor], image: torch.Tensor
) -> torch.Tensor:
    """Logits [batch, class, y, x] of an image [batch, colour, y, x] at a quarter of its resolution:
    with their norm and head in the decoder, which we do not load: batch norm, their classes."""
    decoder = network.decoder
    norm = nn.BatchNorm2d(decoder.head.get_parameter("weight").shape[1])
    for module, name in ((norm, "batch_norm"), (decoder.head, "classifier")):
        prefix = f"decode_head.{name}."
        own = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
        module.load_state_dict(own)
    decoder.norm = norm.eval()  # type: ignore[assignment]
    with torch.no_grad():
        features, x = [], image
        for stage in network.encoder:
            x = stage(x)
            features.append(x)
        logits: torch.Tensor = decoder(features)
    return logits
