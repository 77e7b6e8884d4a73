"""Makes the published networks' answers that tests/networks/test_published.py expects of ours.

Called with the peer's Python, from the repository's root: benchmarks/peer/tiny_networks.py. Writes
one .npz for each network: its `architecture` as plans.json has it, all `parameters` in one row, the
`layout` of its state dict there (name: first and shape; some names mean the same parameters), an
`image`, and `logits.0`, `logits.1`, …, highest resolution first.
"""

import json
import os
from pathlib import Path
from typing import Any

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "unused")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402

DATA = Path("tests/networks/data")
CHANNELS, CLASSES = 2, 3
PATCH = {2: (16, 32), 3: (8, 8, 16)}
# One axis is strided less often than the others; the last stage is no wider than the one before.
STRIDES = {2: ((1, 1), (2, 2), (1, 2), (2, 2)), 3: ((1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 2))}
KERNELS = {2: ((3, 3),) * 4, 3: ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))}
KINDS = {
    "plain": ("PlainConvUNet", {"n_conv_per_stage": [2, 2, 2, 1]}),
    "residual": ("ResidualEncoderUNet", {"n_blocks_per_stage": [1, 2, 2, 1]}),
}


def architecture(kind: str, dims: int) -> dict[str, Any]:
    name, blocks = KINDS[kind]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [2, 3, 4, 4],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": KERNELS[dims],
            "strides": STRIDES[dims],
            **blocks,
            "n_conv_per_stage_decoder": [1, 2, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


@torch.no_grad()
def answer(kind: str, dims: int) -> dict[str, Any]:
    torch.manual_seed(dims)
    arch = architecture(kind, dims)
    network = get_network_from_plans(
        *arch.values(), CHANNELS, CLASSES, allow_init=False, deep_supervision=True
    )
    for parameter in network.parameters():
        parameter += 0.2 * torch.randn_like(parameter)  # nothing stays at 0 or 1
    image = torch.randn(2, CHANNELS, *PATCH[dims])
    first, count = {}, 0
    for parameter in network.parameters():
        first[parameter.data_ptr()] = count
        count += parameter.numel()
    layout = {
        name: [first[value.data_ptr()], *value.shape]
        for name, value in network.state_dict().items()
    }
    return {
        "architecture": np.array(json.dumps(arch)),
        "layout": np.array(json.dumps(layout)),
        "parameters": torch.cat([p.flatten() for p in network.parameters()]).numpy(),
        "image": image.numpy(),
        **{f"logits.{level}": value.numpy() for level, value in enumerate(network(image))},
    }


for kind in KINDS:
    for dims in (2, 3):
        np.savez_compressed(DATA / f"{kind}_{dims}d.npz", **answer(kind, dims))
