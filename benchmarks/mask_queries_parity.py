"""Mask2Former beside that of transformers, of the published size.

With the same weights, features and points: what its decoders give, matches, and losses.

Needs an environment with torch, transformers and scipy:

    python -m benchmarks.mask_queries_parity --python /path/to/its/python
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.run_plan import MatchingPlan
from autoseg.tasks import mask_losses, matching
from autoseg.tasks.mask_targets import MaskTargets
from autoseg.tasks.task import alone
from tests.networks.published_queries import drawn_numbers, drawn_places, published

PEER = Path(__file__).parent / "peer" / "transformers_mask2former.py"
RESULTS = Path(__file__).parent / "results" / "mask_queries_parity.json"
KINDS = {"classes": "loss_cross_entropy", "masks": "loss_mask", "dice": "loss_dice"}


def parity(python: str, size: str) -> dict[str, Any]:
    """The largest differences from transformers."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "peer.npz"
        subprocess.run([python, str(PEER), str(path), size], check=True, capture_output=True)
        file = dict(np.load(path))
    ours = published(str(file["told"]))
    with torch.no_grad():
        layers = ours.decoder(*ours.pixels(ours.features))
    parts = (*ours.pixels.parameters(), *ours.decoder.parameters())
    return {
        "masks": _largest([x.masks for x in layers[::-1]], file["masks"]),
        "largest_mask_logit": float(np.abs(file["masks"]).max()),
        "classes": _largest([x.classes for x in layers[::-1]], file["classes"]),
        "weights": sum(p.numel() for p in parts),
        "weights_of_transformers": sum(
            int(np.prod(shape)) for shape in json.loads(str(file["told"]))["shapes"].values()
        ),
        **_losses(file),
    }


def _largest(found: list[torch.Tensor], expected: Any) -> float:
    return float(np.abs(torch.stack(found).numpy() - expected).max())


def _losses(file: dict[str, Any]) -> dict[str, Any]:
    """Of what transformers' decoders gave: equal matches, and the largest relative difference."""
    told = json.loads(str(file["told"]))
    layers = [
        QueryOutputs(torch.from_numpy(classes), torch.from_numpy(masks))
        for classes, masks in zip(file["classes"], file["masks"], strict=True)
    ][::-1]
    numbers, classes = drawn_numbers(told["size"]["edge"])
    targets, plan = (
        MaskTargets(numbers, numbers, classes),
        MatchingPlan(points=told["size"]["points"]),
    )
    with (
        patch.object(mask_losses, "drawn_places", drawn_places),
        patch.object(matching, "drawn_places", drawn_places),
    ):
        samples, queries, masks = matching.matched(layers, targets, plan)[0]
        found = mask_losses.layer_losses(layers, targets, plan, alone)
    same = [
        np.array_equal(torch.stack((queries, masks))[:, samples == sample], file[f"pairs.{sample}"])
        for sample in (0, 1)
    ]
    off = []
    for index, losses in enumerate([found[0], *found[:0:-1]]):
        suffix = f"_{index - 1}" if index else ""
        for own, theirs in KINDS.items():
            expected = told["losses"][f"{theirs}{suffix}"]
            value = {"classes": losses.classes, "masks": losses.masks, "dice": losses.dice}[own]
            off.append(abs(float(value) / expected - 1))
    return {"matches_are_equal": all(same), "losses_relative": max(off)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "published"])
    options = parser.parse_args()
    found = {size: parity(options.python, size) for size in options.sizes}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
