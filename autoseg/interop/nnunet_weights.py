"""Networks of nnU-Net v2: from what its plans and checkpoints say to ours, weight by weight."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from autoseg.errors import AutosegError
from autoseg.planning.plan import NetworkKind, NetworkPlan, StagePlan

KINDS: dict[str, NetworkKind] = {
    "PlainConvUNet": "plain_unet",
    "ResidualEncoderUNet": "residual_unet",
}
LEAKY_SLOPES = (None, 0.01)
NORM_EPSILONS = (None, 1e-5)
WRAPPERS = ("module.", "_orig_mod.")  # what parallel training and compilation put before names
ENCODER_NAMES = (
    (re.compile(r"encoder\.stem\.convs\.0\."), "stem."),
    (re.compile(r"encoder\.stages\.(\d+)\.(?:0\.convs|blocks)\.(\d+)\."), r"encoder.\1.\2."),
)
DECODER_NAME = re.compile(r"decoder\.(transpconvs|stages|seg_layers)\.(\d+)\.(?:convs\.)?")
DECODER_PARTS = {"transpconvs": "upsample", "stages": "stages", "seg_layers": "heads"}


def network_plan(configuration: Mapping[str, Any]) -> NetworkPlan:
    """The plan of the network of a configuration in a plans.json, current or older.

    Raises AutosegError naming the network, or the part of it, that autoseg does not have.
    """
    architecture = configuration.get("architecture") or _older_architecture(configuration)
    name = str(architecture["network_class_name"]).rpartition(".")[2]
    given = architecture["arch_kwargs"]
    if name not in KINDS:
        raise AutosegError(f"its network is {name}; autoseg has {' and '.join(KINDS)}.")
    _check_operators(given)
    blocks = given.get("n_blocks_per_stage") or given["n_conv_per_stage"]
    stages = zip(
        given["features_per_stage"],
        given["kernel_sizes"],
        given["strides"],
        _per_stage(blocks, given["n_stages"]),
        # Theirs go from low to high resolution.
        [*_per_stage(given["n_conv_per_stage_decoder"], given["n_stages"] - 1)[::-1], 0],
        strict=True,
    )
    return NetworkPlan(
        kind=KINDS[name],
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


def converted_weights(
    published: Mapping[str, torch.Tensor], stage_count: int
) -> dict[str, torch.Tensor]:
    """Their state dict by our names; parameters that they list twice appear once."""
    converted = {}
    for name, weight in published.items():
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
        ours = our_name(name, stage_count)
        if ours is not None:
            converted[ours] = weight
    return converted


def our_name(published: str, stage_count: int) -> str | None:
    """Our name for their parameter, None where another name stands for it too.

    Raises AutosegError for a parameter that no network of KINDS has.
    """
    if "all_modules" in published or published.startswith("decoder.encoder."):
        return None
    for pattern, ours in ENCODER_NAMES:
        if pattern.match(published):
            return pattern.sub(ours, published)
    match = DECODER_NAME.match(published)
    if match is None:
        raise AutosegError(f"its checkpoint has weights {published}, which autoseg does not know.")
    level = stage_count - 2 - int(match[2])  # theirs count from the lowest resolution
    return f"decoder.{DECODER_PARTS[match[1]]}.{level}.{published[match.end() :]}"


def _per_stage(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value]


def _check_operators(given: Mapping[str, Any]) -> None:
    """Refuse what would be computed otherwise here: other norms, activations, or dropout."""
    norm, activation = (str(given.get(k)).rpartition(".")[2] for k in ("norm_op", "nonlin"))
    norm_kwargs, kwargs = given.get("norm_op_kwargs") or {}, given.get("nonlin_kwargs") or {}
    if not norm.startswith("InstanceNorm") or not norm_kwargs.get("affine", False):
        raise AutosegError(f"its normalisation layers are {norm} with {norm_kwargs}.")
    if norm_kwargs.get("eps") not in NORM_EPSILONS:
        raise AutosegError(f"its normalisation layers have eps {norm_kwargs['eps']}.")
    if activation != "LeakyReLU" or kwargs.get("negative_slope") not in LEAKY_SLOPES:
        raise AutosegError(f"its activations are {activation} with {kwargs}.")
    if given.get("dropout_op") is not None:
        raise AutosegError(f"its network has dropout ({given['dropout_op']}).")
    if given.get("conv_op") is None or not str(given["conv_op"]).endswith(("Conv2d", "Conv3d")):
        raise AutosegError(f"its convolutions are {given.get('conv_op')}.")


def _older_architecture(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What plans before `architecture` said in single keys, in its form."""
    try:
        strides = configuration["pool_op_kernel_sizes"]
        width, most = (
            configuration["UNet_base_num_features"],
            configuration["unet_max_num_features"],
        )
        dims, stages = len(configuration["patch_size"]), len(strides)
        encoder = configuration["n_conv_per_stage_encoder"]
        name = str(configuration["UNet_class_name"])
        return {
            "network_class_name": name,
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [min(most, width * 2**i) for i in range(stages)],
                "kernel_sizes": configuration["conv_kernel_sizes"],
                "strides": strides,
                "n_blocks_per_stage" if "Residual" in name else "n_conv_per_stage": encoder,
                "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
                "conv_bias": True,
                "conv_op": f"Conv{dims}d",
                "norm_op": f"InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "nonlin": "LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        }
    except KeyError as missing:
        raise AutosegError(f"its plans describe no network ({missing} is missing).") from None
