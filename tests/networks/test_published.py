"""Our networks compute what nnU-Net's do, given its weights: files made by its own code.

benchmarks/peer/tiny_networks.py makes them.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.interop.nnunet_weights import converted_weights, network_plan
from autoseg.networks import family_of

DATA = Path(__file__).parent / "data"


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
    plan = network_plan({"architecture": json.loads(str(file["architecture"]))})
    network = family_of(plan.kind).build(plan, 2, 3)
    network.load_state_dict(converted_weights(published_weights(file), len(plan.stages)))
    with torch.no_grad():
        found = network(torch.from_numpy(file["image"]), all_resolutions=True)
    assert len(found) == 2  # the third would weigh nothing, so it is not computed
    for level, logits in enumerate(found):
        np.testing.assert_allclose(logits.numpy(), file[f"logits.{level}"], atol=1e-5, rtol=0)
