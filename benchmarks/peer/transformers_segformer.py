"""A SegFormer of transformers with random weights, saved with an image and what it makes of it.

Runs in an environment of its own: python transformers_segformer.py FOLDER B0
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

WIDE = [64, 128, 320, 512]
SIZES = {
    "b0": ([2, 2, 2, 2], [32, 64, 160, 256], 256),
    "b1": ([2, 2, 2, 2], WIDE, 256),
    "b2": ([3, 4, 6, 3], WIDE, 768),
    "b3": ([3, 4, 18, 3], WIDE, 768),
    "b4": ([3, 8, 27, 3], WIDE, 768),
    "b5": ([3, 6, 40, 3], WIDE, 768),
}
CLASSES, EDGE = 150, 64


def main(folder: Path, size: str) -> None:
    depths, widths, decoder = SIZES[size]
    config = SegformerConfig(
        depths=depths, hidden_sizes=widths, decoder_hidden_size=decoder, num_labels=CLASSES
    )
    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(config).eval()
    for parameter in model.parameters():  # biases and norms begin at 0 and 1, which hides mistakes
        parameter.data += 0.02 * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder / "model")
    image = torch.randn(2, 3, EDGE, 2 * EDGE)
    with torch.no_grad():
        logits = model(image).logits
    save_file({"image": image, "logits": logits.contiguous()}, folder / "example.safetensors")
    encoder = sum(p.numel() for p in model.segformer.parameters())
    counts = {"encoder": encoder, "whole": sum(p.numel() for p in model.parameters())}
    (folder / "counts.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
