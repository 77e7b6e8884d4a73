"""Networks, by the name that plans use for them."""

from collections.abc import Callable

from torch import nn

from autoseg.networks.unet import PlainUNet, ResidualUNet
from autoseg.planning.plan import NetworkKind, NetworkPlan

NETWORKS: dict[NetworkKind, Callable[[NetworkPlan, int, int], nn.Module]] = {
    "plain_unet": PlainUNet,
    "residual_unet": ResidualUNet,
}
