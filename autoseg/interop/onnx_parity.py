"""Whether ONNX graphs give what torch gives, on patches of noise and of scans."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoseg.checkpoint import ModelCard
from autoseg.device import Device
from autoseg.inference.engines.onnx_engine import CPU, open_graph
from autoseg.inference.engines.onnx_graph import INPUT, OUTPUT
from autoseg.inference.engines.request import EngineRequest
from autoseg.inference.engines.torch_engine import make_torch_runner
from autoseg.inference.ensemble import Ensemble
from autoseg.interop.onnx_card import Parity
from autoseg.preprocessing.prepare import preparation_hash
from autoseg.preprocessing.store import SUFFIX, open_case
from autoseg.tasks import task_of
from autoseg.work_folder import WorkFolder

RANDOM = "random"

Patches = Mapping[str, NDArray[np.float32]]  # [1, channel, z, y, x] by what they are of


def example_patches(card: ModelCard, work: Path | None) -> Patches:
    """Normal noise; and the middle of a prepared case, if the work folder has one on this grid.

    What an earlier stage would have found in the case is nothing.
    """
    model = card.configuration.model
    shape = (1, len(model.channel_names), *model.patch_box_vox)
    patches = {RANDOM: np.random.default_rng(0).standard_normal(shape, np.float32)}
    if work is not None:
        folder = WorkFolder(work).prepared(preparation_hash(card.configuration.grid, card.labels))
        for path in sorted(folder.glob(f"*{SUFFIX}"))[:1]:
            patches[path.name.removesuffix(SUFFIX)] = _middle(path, shape)
    return patches


def compare(
    graph: bytes, network: nn.Module, card: ModelCard, mirrored: bool, patches: Patches
) -> tuple[Parity, ...]:
    """A graph in ONNX Runtime beside the network in torch, both on the CPU."""
    configuration = card.configuration
    dims = configuration.model.spatial_dims
    expect = _in_torch(network, card, mirrored)
    answer = task_of(configuration, card.labels).answer
    session = open_graph(graph, (CPU.name, {}))
    found = []
    for name, patch in patches.items():
        expected = expect(torch.from_numpy(patch))
        inputs = patch if dims == 3 else patch[:, :, 0]
        (logits,) = session.run([OUTPUT], {INPUT: inputs})
        given = torch.from_numpy(logits).reshape(expected.shape)
        equal = answer.decode(given[0]) == answer.decode(expected[0])
        found.append(
            Parity(
                patch=name,
                largest_difference=float((given - expected).abs().max()),
                equal_labels=float(equal.float().mean()),
            )
        )
    return tuple(found)


def _in_torch(network: nn.Module, card: ModelCard, mirrored: bool) -> Ensemble:
    """What `predict` runs, in single precision on the CPU."""
    configuration = card.configuration
    model = configuration.model
    shape = (len(model.channel_names), *model.patch_size_vox)
    request = EngineRequest(
        network=network,
        device=Device(torch.device("cpu"), "fp32"),
        patch_shape=shape,
        example_shape=shape,
        key="",
        cache=None,
    )
    return Ensemble(
        runners=(make_torch_runner(request),),
        spatial_dims=model.spatial_dims,
        mirror_axes=configuration.inference.mirror_axes if mirrored else (),
        task=task_of(configuration, card.labels),
    )


def _middle(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The middle of a prepared case, as large as a patch; 0 where the case has nothing."""
    image = open_case(path).image
    patch = np.zeros(shape, np.float32)
    source: list[slice] = []
    place: list[slice] = []
    for have, want in zip(image.shape[1:], shape[2:], strict=True):
        size = min(have, want)
        source.append(slice((have - size) // 2, (have - size) // 2 + size))
        place.append(slice((want - size) // 2, (want - size) // 2 + size))
    patch[:, : image.shape[0], *place] = image[:, *source]
    return patch
