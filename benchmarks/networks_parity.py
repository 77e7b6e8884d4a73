"""SegFormer beside that of transformers, with the same weights; and published numbers of weights.

Needs an environment with torch, transformers and safetensors:

    python -m benchmarks.networks_parity --python /path/to/its/python
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from autoseg.checkpoint import read_tensors
from autoseg.networks import FAMILIES
from autoseg.networks.mednext_family import SIZES as MEDNEXTS
from autoseg.networks.mednext_family import stages_of
from autoseg.networks.segformer import SegFormer
from autoseg.networks.segformer_family import SIZES as SEGFORMERS
from autoseg.networks.segformer_family import segformer_of
from autoseg.planning.network_plan import MedNeXtPlan
from autoseg.planning.topology import Topology
from autoseg.training.published import initialize_from_published
from tests.networks.published_segformer import logits_as_published

PEER = Path(__file__).parent / "peer" / "transformers_segformer.py"
RESULTS = Path(__file__).parent / "results" / "networks_parity.json"
CLASSES = 150
HALVED = 5
HEADS = re.compile(r"heads\.[1-9]")  # of deep supervision
MEDNEXT_PAPER_M = {
    "s": (5.6, 5.9),
    "b": (10.5, 11.0),
    "m": (17.6, 18.3),
    "l": (61.8, 63.0),
}  # by kernel edge, 3 and 5


def topology_of(dims: int) -> Topology:
    """Every axis halved five times."""
    strides = ((1,) * dims, *[(2,) * dims] * HALVED)
    return Topology(strides, ((3,) * dims,) * (HALVED + 1))


def segformer_parity(python: str, size: str) -> dict[str, Any]:
    """The largest difference of logits at the decoder's resolution, and numbers of weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([python, str(PEER), name, size], check=True, capture_output=True)
        network = SegFormer(segformer_of(SEGFORMERS[size], topology_of(2)), 3, CLASSES).eval()
        counts = {
            "encoder": sum(p.numel() for p in network.encoder.parameters()),
            "whole": sum(p.numel() for p in network.parameters()),
        }
        file = folder / "model" / "model.safetensors"
        initialize_from_published(network, "segformer", file)
        theirs, _ = read_tensors(file)
        example, _ = read_tensors(folder / "example.safetensors")
        logits = logits_as_published(network, theirs, example["image"])
        return {
            "largest_difference": float((logits - example["logits"]).abs().max()),
            "largest_logit": float(example["logits"].abs().max()),
            "weights": counts,
            "weights_of_transformers": json.loads((folder / "counts.json").read_text()),
        }


def mednext_weights(size: str, kernel_edge: int) -> int:
    """Of a network of one channel and two outputs, without the heads of deep supervision."""
    stages = stages_of(MEDNEXTS[size], topology_of(3), 32, kernel_edge)
    plan = MedNeXtPlan(stages=stages, deep_supervision=False)
    with torch.device("meta"):
        network = FAMILIES["mednext"].build(plan, 1, 2)
    return sum(p.numel() for n, p in network.named_parameters() if not HEADS.match(n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--sizes", nargs="+", default=list(SEGFORMERS))
    options = parser.parse_args()
    found: dict[str, Any] = {
        "segformer": {size: segformer_parity(options.python, size) for size in options.sizes},
        "mednext_million_weights": {
            f"{size} k{edge}": {
                "here": round(mednext_weights(size, edge) / 1e6, 3),
                "paper": MEDNEXT_PAPER_M[size][index],
            }
            for size in MEDNEXTS
            for index, edge in enumerate((3, 5))
        },
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
