"""A SegFormer of transformers with random weights, saved with an image and what it makes of it.

Runs in an environment of its own: python transformers_segformer.py FOLDER b0; with `tiny`, and the
repository's root for a folder, it makes what tests/networks/test_segformer.py expects of ours.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

WIDE = [64, 128, 320, 512]
SIZES = {
    "tiny": ([1, 2, 1, 1], [4, 8, 10, 16], 8),
    "b0": ([2, 2, 2, 2], [32, 64, 160, 256], 256),
    "b1": ([2, 2, 2, 2], WIDE, 256),
    "b2": ([3, 4, 6, 3], WIDE, 768),
    "b3": ([3, 4, 18, 3], WIDE, 768),
    "b4": ([3, 8, 27, 3], WIDE, 768),
    "b5": ([3, 6, 40, 3], WIDE, 768),
}
CLASSES, EDGE = {"tiny": 5}, {"tiny": 32}  # of others 150, and 64
NOISE = {"tiny": 0.3}  # of so few weights, for logits that say something
DATA = Path("tests/networks/data/segformer.safetensors")


def main(folder: Path, size: str) -> None:
    depths, widths, decoder = SIZES[size]
    config = SegformerConfig(
        depths=depths,
        hidden_sizes=widths,
        decoder_hidden_size=decoder,
        num_labels=CLASSES.get(size, 150),
    )
    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(config).eval()
    for parameter in model.parameters():  # biases and norms begin at 0 and 1, which hides mistakes
        parameter.data += NOISE.get(size, 0.02) * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    edge = EDGE.get(size, 64)
    image = torch.randn(2, 3, edge, 2 * edge)
    with torch.no_grad():
        logits = model(image).logits
    example = {"image": image, "logits": logits.contiguous()}
    if size == "tiny":  # as it is saved, which is not what its modules are called
        with tempfile.TemporaryDirectory() as name:
            model.save_pretrained(name)
            weights = load_file(Path(name) / "model.safetensors")
            save_file(weights | example, folder / DATA)
        return
    model.save_pretrained(folder / "model")
    save_file(example, folder / "example.safetensors")
    encoder = sum(p.numel() for p in model.segformer.parameters())
    counts = {"encoder": encoder, "whole": sum(p.numel() for p in model.parameters())}
    (folder / "counts.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
