"""Covers: instance_norm."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from autoseg.networks.cpu_training import CHANNELS_LAST
from autoseg.networks.instance_norm import FeatureNorm, QuickNorm2d, QuickNorm3d

NORMS: dict[int, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    2: (QuickNorm2d, nn.InstanceNorm2d),
    3: (QuickNorm3d, nn.InstanceNorm3d),
}


@pytest.mark.parametrize("arrives_last", [False, True], ids=["contiguous", "gradients last"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6, 4, 5), (1, 4, 1, 4, 5), (2, 1, 3, 3)])
def test_values_and_gradients_are_those_of_torch_in_double_precision(
    shape: tuple[int, ...], last: bool, arrives_last: bool
) -> None:
    torch.manual_seed(0)
    quick, slow = (norm(shape[1], eps=1e-5, affine=True) for norm in NORMS[len(shape) - 2])
    nn.init.normal_(quick.get_parameter("weight"))
    nn.init.normal_(quick.get_parameter("bias"))
    slow.load_state_dict(quick.state_dict())
    slow.double()
    layout = CHANNELS_LAST[len(shape)] if last else torch.contiguous_format
    x = (torch.randn(shape) * 3 + 50).contiguous(memory_format=layout).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = quick(x), slow(exact)
    gradient = torch.randn(shape)
    expected.backward(gradient.double())
    if arrives_last:
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST[len(shape)])
    found.backward(gradient)
    assert found.stride() == x.stride()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-5, rtol=1e-4)
    for name, parameter in quick.named_parameters():
        own, true = parameter.grad, slow.get_parameter(name).grad
        assert own is not None and true is not None
        torch.testing.assert_close(own.double(), true, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_that_arrive_channels_last_are_right_in_half_precision(batch: int) -> None:
    x = torch.randn(batch, 4, 5, 6).bfloat16()
    gradient = torch.randn_like(x).contiguous(memory_format=torch.channels_last)
    norm = QuickNorm2d(4, affine=True)
    own = x.clone().requires_grad_()
    norm(own).backward(gradient)
    exact = x.double().requires_grad_()
    normed = nn.functional.group_norm(exact, 4)
    [expected] = torch.autograd.grad(normed, exact, gradient.double().contiguous())
    assert own.grad is not None
    torch.testing.assert_close(own.grad.double(), expected, atol=0.05, rtol=0.05)


def test_what_is_not_trained_on_a_cpu_is_torchs_own() -> None:
    norm = QuickNorm2d(3, affine=True).eval()
    names = [
        node.target for node in torch.export.export(norm, (torch.randn(1, 3, 4, 4),)).graph.nodes
    ]
    assert torch.ops.aten.instance_norm.default in names
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        norm.train()(torch.randn(2, 3, 1, 1))


@pytest.mark.parametrize("shape", [(2, 3, 6, 4, 5), (2, 3, 4, 5), (2, 3, 1, 1, 1)])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_a_norm_of_features_is_torchs_group_norm(shape: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    layout = CHANNELS_LAST[len(shape)] if last else torch.contiguous_format
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    norm, gradient = FeatureNorm(3), torch.randn(shape)
    nn.init.normal_(norm.weight)
    exact = nn.GroupNorm(3, 3).double()
    exact.load_state_dict(norm.state_dict())
    found = torch.autograd.grad(norm(x), [x, *norm.parameters()], gradient)
    expected = torch.autograd.grad(
        exact(doubled := x.detach().double().requires_grad_()),
        [doubled, *exact.parameters()],
        gradient.double(),
    )
    for own, true in zip(found, expected, strict=True):
        torch.testing.assert_close(own.double(), true, atol=1e-4, rtol=1e-4)


def test_an_activation_may_change_what_was_normed() -> None:
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = QuickNorm2d(3, affine=True)
    changed = nn.functional.leaky_relu(norm(x), 0.01, inplace=True)
    [found] = torch.autograd.grad(changed.sum(), x)
    [own] = torch.autograd.grad(nn.functional.leaky_relu(nn.functional.instance_norm(x)).sum(), x)
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-4)
