"""What is counted from a U-Net's plan is, to the number, what tracing the network finds."""

import pytest

from autoseg.networks import FAMILIES
from autoseg.networks.tracing import trace
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan, StageMaskInput
from autoseg.planning.network_plan import NetworkKind, StagePlan, UNetPlan, Upsampling

FLAT, CUBE = (3, 3), (3, 3, 3)


def stage(
    features: int,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    blocks: int = 1,
    decoder_blocks: int = 1,
) -> StagePlan:
    return StagePlan(
        features=features,
        kernel_size=kernel_size,
        stride=stride,
        blocks=blocks,
        decoder_blocks=decoder_blocks,
    )


# A patch, and stages from the highest resolution to the lowest.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[StagePlan, ...]]] = {
    "two stages as wide": ((4, 6, 8), (stage(5, CUBE, (1, 1, 1)), stage(5, CUBE, (2, 2, 2)))),
    "slices": (
        (24, 40),
        (
            stage(6, FLAT, (1, 1)),
            stage(12, FLAT, (2, 2), blocks=2, decoder_blocks=2),
            stage(20, FLAT, (2, 2), decoder_blocks=3),
            stage(40, FLAT, (2, 2), blocks=2),
        ),
    ),
    "oblong slices": (
        (16, 12),
        (
            stage(8, (1, 3), (1, 1), blocks=2, decoder_blocks=2),
            stage(8, (3, 1), (2, 1), blocks=3),
            stage(9, FLAT, (4, 3)),
        ),
    ),
    "anisotropic scans": (
        (4, 16, 32),
        (
            stage(4, (1, 3, 3), (1, 1, 1), blocks=2, decoder_blocks=2),
            stage(8, (1, 3, 3), (1, 2, 2), blocks=2, decoder_blocks=2),
            stage(16, CUBE, (1, 2, 2), blocks=3, decoder_blocks=2),
            stage(33, CUBE, (2, 2, 2), blocks=4),
            stage(33, CUBE, (1, 1, 2)),
        ),
    ),
    "halved at once": (
        (8, 8, 8),
        (stage(3, (5, 3, 1), (2, 2, 1)), stage(7, (3, 5, 7), (2, 2, 2), blocks=2)),
    ),
}


def model_of(patch: tuple[int, ...], outputs: int, network: UNetPlan) -> ModelPlan:
    """A model that sees a mask beside as many channels as it has outputs."""
    return ModelPlan(
        patch_size_vox=patch,
        inputs=(
            ScanInput(channels=tuple(f"channel {n}" for n in range(outputs))),
            StageMaskInput(stage="3d_lowres", classes=("organ",)),
        ),
        network=network,
        task=SemanticPlan(classes=outputs),
    )


# Upsampling, bias, deep supervision, squeeze and excitation, outputs: every pair of values is met.
VARIANTS: tuple[tuple[Upsampling, bool, bool, bool, int], ...] = (
    ("transposed", False, False, False, 1),
    ("transposed", True, True, True, 5),
    ("interpolated", False, True, False, 5),
    ("interpolated", True, False, True, 1),
    ("subpixel", False, False, True, 5),
    ("subpixel", True, True, False, 1),
)


@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_count_from_the_plan_is_what_tracing_finds(shape: str, kind: NetworkKind) -> None:
    patch, stages = SHAPES[shape]
    for upsampling, bias, supervised, squeezed, outputs in VARIANTS:
        network = UNetPlan(
            kind=kind, stages=stages, norm="instance", activation="leaky_relu", bias=bias,
            upsampling=upsampling, deep_supervision=supervised, squeeze_excitation=squeezed,
        )  # fmt: skip
        model = model_of(patch, outputs, network)
        assert FAMILIES[kind].cost(model) == trace(FAMILIES[kind].build, model), model
