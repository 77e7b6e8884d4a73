"""Our networks compute what nnU-Net's do, given its weights: files made by its own code.

benchmarks/peer/tiny_networks.py makes them.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.networks import network_builder
from autoseg.planning.plan import NetworkKind, NetworkPlan, StagePlan

DATA = Path(__file__).parent / "data"
KINDS: dict[str, NetworkKind] = {
    "PlainConvUNet": "plain_unet",
    "ResidualEncoderUNet": "residual_unet",
}
ENCODER_NAMES = (
    (re.compile(r"encoder\.stem\.convs\.0\."), "stem."),
    (re.compile(r"encoder\.stages\.(\d+)\.(?:0\.convs|blocks)\.(\d+)\."), r"encoder.\1.\2."),
)
DECODER_NAME = re.compile(r"decoder\.(transpconvs|stages|seg_layers)\.(\d+)\.(?:convs\.)?")
DECODER_PARTS = {"transpconvs": "upsample", "stages": "stages", "seg_layers": "heads"}


def network_plan(architecture: Mapping[str, Any]) -> NetworkPlan:
    """The plan of a network whose `architecture` stands in a published plans.json."""
    given = architecture["arch_kwargs"]
    stages = zip(
        given["features_per_stage"],
        given["kernel_sizes"],
        given["strides"],
        given.get("n_blocks_per_stage") or given["n_conv_per_stage"],
        [*given["n_conv_per_stage_decoder"][::-1], 0],  # theirs go from low to high resolution
        strict=True,
    )
    return NetworkPlan(
        kind=KINDS[architecture["network_class_name"].rpartition(".")[2]],
        stages=tuple(
            StagePlan(features=f, kernel_size=k, stride=s, blocks=b, decoder_blocks=d)
            for f, k, s, b, d in stages
        ),
        norm="instance",
        activation="leaky_relu",
        bias=given["conv_bias"],
        upsampling="transposed",
        deep_supervision=True,
    )


def our_name(published: str, stage_count: int) -> str | None:
    """Our name for a published network's parameter, None where another name stands for it too."""
    if "all_modules" in published or published.startswith("decoder.encoder."):
        return None
    for pattern, ours in ENCODER_NAMES:
        if pattern.match(published):
            return pattern.sub(ours, published)
    match = DECODER_NAME.match(published)
    assert match, published
    level = stage_count - 2 - int(match[2])  # theirs count from the lowest resolution
    return f"decoder.{DECODER_PARTS[match[1]]}.{level}.{published[match.end() :]}"


def published_weights(file: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict as the published network gives it."""
    parameters = torch.from_numpy(file["parameters"])
    layout = json.loads(str(file["layout"]))
    return {
        name: parameters[first : first + math.prod(shape)].reshape(shape)
        for name, (first, *shape) in layout.items()
    }


@pytest.mark.parametrize("name", ["plain_2d", "plain_3d", "residual_2d", "residual_3d"])
def test_published_weights_give_the_published_logits(name: str) -> None:
    file = np.load(DATA / f"{name}.npz")
    plan = network_plan(json.loads(str(file["architecture"])))
    network = network_builder(plan.kind)(plan, 2, 3)
    named = {our_name(n, len(plan.stages)): w for n, w in published_weights(file).items()}
    network.load_state_dict({n: w for n, w in named.items() if n is not None})
    with torch.no_grad():
        found = network(torch.from_numpy(file["image"]), all_resolutions=True)
    assert len(found) == 2  # the third would weigh nothing, so it is not computed
    for level, logits in enumerate(found):
        np.testing.assert_allclose(logits.numpy(), file[f"logits.{level}"], atol=1e-5, rtol=0)
