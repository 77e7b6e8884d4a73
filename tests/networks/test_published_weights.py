"""Published kernels for other numbers of channels and dimensions, and others' names by ours."""

import pytest
import torch
from torch.nn import functional

from autoseg.networks.published_weights import (
    for_channels,
    inflated,
    resnet_name,
    segformer_name,
)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_kernels_of_other_channels_see_the_same_in_grey(channels: int) -> None:
    kernel, grey = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 8, 8)
    adapted = for_channels(kernel, channels)
    found = functional.conv2d(grey.expand(1, channels, 8, 8), adapted)
    torch.testing.assert_close(found, functional.conv2d(grey.expand(1, 3, 8, 8), kernel))


def test_three_channels_keep_their_kernels() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    assert torch.equal(for_channels(kernel, 3), kernel)


def test_inflated_kernels_see_equal_slices_as_one() -> None:
    kernel, image = torch.randn(4, 2, 3, 3), torch.randn(1, 2, 6, 6)
    volume = inflated(kernel, torch.Size((4, 2, 3, 3, 3)))
    found = functional.conv3d(image[:, :, None].expand(1, 2, 3, 6, 6), volume)
    torch.testing.assert_close(found[:, :, 0], functional.conv2d(image, kernel))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("segformer.encoder.patch_embeddings.0.proj.weight", "encoder.0.embed.weight"),
        ("encoder.block.1.0.attention.self.sr.bias", "encoder.1.blocks.0.attention.reduce.bias"),
        ("encoder.layer_norm.3.bias", "encoder.3.norm.bias"),
        ("decode_head.linear_c.2.proj.weight", "decoder.project.2.weight"),
        ("decode_head.classifier.weight", None),
    ],
)  # fmt: skip
def test_weights_of_a_segformer_have_our_names(theirs: str, ours: str | None) -> None:
    assert segformer_name(theirs) == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.weight", "encoder.conv1.weight"),
        ("layer2.0.downsample.0.weight", "encoder.layer2.0.downsample.0.weight"),
        ("module.layer4.1.bn2.bias", "encoder.layer4.1.bn2.bias"),
        ("bn1.running_mean", None),
        ("fc.weight", None),
    ],
)
def test_weights_of_a_resnet_have_our_names(theirs: str, ours: str | None) -> None:
    assert resnet_name(theirs) == ours
