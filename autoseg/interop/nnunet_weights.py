"""Networks of nnU-Net v2: what its plans and checkpoints say to ours and back, weight by weight."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autoseg.errors import AutosegError
from autoseg.planning.network_plan import StagePlan, UNetPlan


@dataclass(frozen=True, slots=True)
class PublishedNames:
    """Their names for a kind of network: its class, how many blocks it has, and where those are."""

    network: str
    block_count: str
    blocks: str


PUBLISHED: dict[str, PublishedNames] = {
    "plain_unet": PublishedNames("PlainConvUNet", "n_conv_per_stage", "0.convs"),
    "residual_unet": PublishedNames("ResidualEncoderUNet", "n_blocks_per_stage", "blocks"),
}
KINDS: dict[str, str] = {names.network: kind for kind, names in PUBLISHED.items()}
MODULE = "dynamic_network_architectures.architectures.unet"
LEAKY_SLOPES = (None, 0.01)
NORM_EPSILON = 1e-5
KNOWN_SETTINGS = {
    "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage",
    "n_blocks_per_stage", "n_conv_per_stage_decoder", "conv_op", "conv_bias", "norm_op",
    "norm_op_kwargs", "nonlin", "nonlin_kwargs", "dropout_op", "dropout_op_kwargs",
    "deep_supervision",
}  # fmt: skip
NEUTRAL: tuple[Any, ...] = (None, False, 0, {})  # of settings that then change nothing
WRAPPERS = ("module.", "_orig_mod.")  # what parallel training and compilation put before names
STEM = "encoder.stem.convs.0."
BLOCKS = "|".join(re.escape(names.blocks) for names in PUBLISHED.values())
ENCODER_NAMES = (
    (re.compile(re.escape(STEM)), "stem."),
    (re.compile(rf"encoder\.stages\.(\d+)\.(?:{BLOCKS})\.(\d+)\."), r"encoder.\1.\2."),
)
DECODER_NAME = re.compile(r"decoder\.(transpconvs|stages|seg_layers)\.(\d+)\.(?:convs\.)?")
DECODER_PARTS = {"transpconvs": "upsample", "stages": "stages", "seg_layers": "heads"}
PUBLISHED_PARTS = {ours: theirs for theirs, ours in DECODER_PARTS.items()}
# Blocks list their layers a second time, and decoders their encoder.
REPEATED_LAYERS = {"conv": "all_modules.0", "norm": "all_modules.1"}
REPEATED_ENCODER = "decoder."


def network_plan(configuration: Mapping[str, Any]) -> UNetPlan:
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
    return UNetPlan(
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
    if "all_modules" in published or published.startswith(f"{REPEATED_ENCODER}encoder."):
        return None
    for pattern, ours in ENCODER_NAMES:
        if pattern.match(published):
            return pattern.sub(ours, published)
    match = DECODER_NAME.match(published)
    if match is None:
        raise AutosegError(f"its checkpoint has weights {published}, which autoseg does not know.")
    level = stage_count - 2 - int(match[2])  # theirs count from the lowest resolution
    return f"decoder.{DECODER_PARTS[match[1]]}.{level}.{published[match.end() :]}"


def published_architecture(plan: UNetPlan) -> dict[str, Any]:
    """The `architecture` of their plans.json for a plan that they have a network for."""
    names = PUBLISHED[plan.kind]
    dims = len(plan.stages[0].kernel_size)
    return {
        "network_class_name": f"{MODULE}.{names.network}",
        "arch_kwargs": {
            "n_stages": len(plan.stages),
            "features_per_stage": [stage.features for stage in plan.stages],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(stage.kernel_size) for stage in plan.stages],
            "strides": [list(stage.stride) for stage in plan.stages],
            names.block_count: [stage.blocks for stage in plan.stages],
            "n_conv_per_stage_decoder": [s.decoder_blocks for s in plan.stages[-2::-1]],
            "conv_bias": plan.bias,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": NORM_EPSILON, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def published_weights(
    weights: Mapping[str, torch.Tensor], plan: UNetPlan
) -> dict[str, torch.Tensor]:
    """Our state dict by their names; a parameter that they list twice is one tensor."""
    return {
        name: weight for ours, weight in weights.items() for name in published_names(ours, plan)
    }


def published_names(ours: str, plan: UNetPlan) -> list[str]:
    """All names that their state dict has for our parameter; undoes `our_name`."""
    part, *inner = ours.split(".")
    if part == "stem":
        name = STEM + ".".join(inner)
    elif part == "encoder":
        stage, *rest = inner
        name = ".".join(("encoder.stages", stage, PUBLISHED[plan.kind].blocks, *rest))
    else:
        module, level, *rest = inner
        theirs = str(len(plan.stages) - 2 - int(level))
        convs = ("convs",) if module == "stages" else ()
        name = ".".join(("decoder", PUBLISHED_PARTS[module], theirs, *convs, *rest))
    block, layer, parameter = name.rsplit(".", 2)
    names = [name]
    if layer in REPEATED_LAYERS:
        names.append(f"{block}.{REPEATED_LAYERS[layer]}.{parameter}")
    if name.startswith("encoder."):
        names += [REPEATED_ENCODER + repeated for repeated in names]
    return names


def _per_stage(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value]


def _check_operators(given: Mapping[str, Any]) -> None:
    """Refuse what would be computed otherwise here: other norms, activations, or dropout."""
    norm, activation = (str(given.get(k)).rpartition(".")[2] for k in ("norm_op", "nonlin"))
    norm_kwargs, kwargs = given.get("norm_op_kwargs") or {}, given.get("nonlin_kwargs") or {}
    if not norm.startswith("InstanceNorm") or not norm_kwargs.get("affine", False):
        raise AutosegError(f"its normalisation layers are {norm} with {norm_kwargs}.")
    if norm_kwargs.get("eps") not in (None, NORM_EPSILON):
        raise AutosegError(f"its normalisation layers have eps {norm_kwargs['eps']}.")
    if activation != "LeakyReLU" or kwargs.get("negative_slope") not in LEAKY_SLOPES:
        raise AutosegError(f"its activations are {activation} with {kwargs}.")
    if given.get("dropout_op") is not None:
        raise AutosegError(f"its network has dropout ({given['dropout_op']}).")
    other = {k: v for k, v in given.items() if k not in KNOWN_SETTINGS and v not in NEUTRAL}
    if other:
        raise AutosegError(f"its network has settings that autoseg does not know: {other}.")
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
                "norm_op_kwargs": {"eps": NORM_EPSILON, "affine": True},
                "dropout_op": None,
                "nonlin": "LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        }
    except KeyError as missing:
        raise AutosegError(f"its plans describe no network ({missing} is missing).") from None
