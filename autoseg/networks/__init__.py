"""Networks, by the name that plans use for them."""

from collections.abc import Callable

from torch import nn

from autoseg.extensions import load_extension
from autoseg.networks.unet import PlainUNet, ResidualUNet
from autoseg.planning.plan import NetworkKind, NetworkPlan

BuildNetwork = Callable[[NetworkPlan, int, int], nn.Module]

NETWORKS: dict[NetworkKind, BuildNetwork] = {
    "plain_unet": PlainUNet,
    "residual_unet": ResidualUNet,
}


def network_builder(kind: str) -> BuildNetwork:
    """What builds networks of a kind, given plan, input channels and outputs.

    A network takes images [batch, channel, *patch] and gives logits [batch, output, *patch]. If its
    plan asks for deep supervision it also takes `all_resolutions=True`, and then gives a list of
    logits, highest resolution first. Raises AutosegError for a kind that nobody has installed.
    """
    for known, build in NETWORKS.items():
        if known == kind:
            return build
    build_extension: BuildNetwork = load_extension("autoseg.networks", kind)
    return build_extension
