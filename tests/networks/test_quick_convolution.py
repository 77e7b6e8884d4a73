"""Covers: quick_convolution, cpu_training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autoseg.networks.cpu_training import CHANNELS_LAST
from autoseg.networks.quick_convolution import QuickConv3d, QuickTransposed3d

Kind = tuple[Callable[..., nn.Module], Callable[..., nn.Module]]
CONV: Kind = (QuickConv3d, nn.Conv3d)
TRANSPOSED: Kind = (QuickTransposed3d, nn.ConvTranspose3d)
CASES: dict[str, tuple[Kind, int, dict[str, Any]]] = {
    "voxels": (CONV, 6, {"kernel_size": 1}),
    "voxels, no bias": (CONV, 6, {"kernel_size": 1, "bias": False}),
    "voxels, strided": (CONV, 6, {"kernel_size": 1, "stride": (1, 2, 3)}),
    "voxels, transposed": (TRANSPOSED, 6, {"kernel_size": 1, "stride": 2}),
    "depthwise": (CONV, 4, {"kernel_size": 3, "padding": 1, "groups": 4}),
    "depthwise, no bias": (CONV, 4, {"kernel_size": 3, "padding": 1, "groups": 4, "bias": False}),
    "in the plane": (CONV, 4, {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "groups": 4}),
    "through slices": (CONV, 4, {"kernel_size": (5, 1, 3), "padding": (2, 0, 1), "groups": 4}),
    "longer than its maps": (CONV, 4, {"kernel_size": 15, "padding": 7, "groups": 4}),
    "strided": (CONV, 4, {"kernel_size": 3, "padding": 1, "groups": 4, "stride": (1, 2, 2)}),
    "dilated": (
        CONV,
        4,
        {"kernel_size": 3, "padding": (1, 2, 3), "dilation": (1, 2, 3), "groups": 4},
    ),
    "transposed": (TRANSPOSED, 4, {"kernel_size": 3, "padding": 1, "groups": 4, "stride": 2}),
    "transposed in the plane": (
        TRANSPOSED,
        4,
        {"kernel_size": 3, "padding": 1, "groups": 4, "stride": (1, 2, 2)},
    ),
    "neither": (CONV, 6, {"kernel_size": 3, "padding": 1, "stride": 2}),
    "in groups": (CONV, 6, {"kernel_size": 3, "padding": 1, "groups": 2}),
    "that does not keep the size": (CONV, 4, {"kernel_size": 3, "groups": 4}),
    "round the edges": (
        CONV,
        4,
        {"kernel_size": 3, "padding": 1, "groups": 4, "padding_mode": "circular"},
    ),
}


@pytest.mark.parametrize("arrives_last", [False, True], ids=["contiguous", "gradients last"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_torch_in_double_precision(
    case: str, batch: int, last: bool, arrives_last: bool
) -> None:
    (quick, slow), width, shape = CASES[case]
    torch.manual_seed(0)
    layer = quick(4, width, **shape)
    exact = slow(4, width, **shape).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(batch, 4, 5, 7, 6)
    x = x.contiguous(memory_format=_layout(last)).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    found, expected = layer(x), exact(exact_x)
    gradient = torch.randn(found.shape)
    expected.backward(gradient.double())
    found.backward(gradient.contiguous(memory_format=_layout(arrives_last)))
    if "voxels" in case and quick is QuickConv3d:
        assert found.is_contiguous(memory_format=_layout(last))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert x.grad is not None and exact_x.grad is not None
    torch.testing.assert_close(x.grad.double(), exact_x.grad, atol=1e-5, rtol=1e-5)
    for name, parameter in layer.named_parameters():
        own, true = parameter.grad, exact.get_parameter(name).grad
        assert own is not None and true is not None
        torch.testing.assert_close(own.double(), true, atol=1e-4, rtol=1e-4)


def _layout(last: bool) -> torch.memory_format:
    return CHANNELS_LAST[5] if last else torch.contiguous_format


QUICK = pytest.mark.parametrize("case", ["voxels", "depthwise", "voxels, transposed", "transposed"])


@QUICK
def test_only_where_a_cpu_trains_in_single_precision_torchs_own_gradient_is_not_asked_for(
    case: str,
) -> None:
    (quick, _), width, shape = CASES[case]
    layer = quick(4, width, **shape)
    x = torch.randn(2, 4, 5, 7, 6, requires_grad=True)
    own = "ConvolutionBackward0"
    assert own not in _gradients_asked_for(layer(x))
    assert own in _gradients_asked_for(layer.double()(x.double()))
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert own in _gradients_asked_for(layer(x))
    assert own in _gradients_asked_for(layer.eval()(x))


def _gradients_asked_for(result: torch.Tensor) -> set[str]:
    """The names of all functions that a gradient goes through."""
    ahead, names = [result.grad_fn], set()
    while ahead:
        function = ahead.pop()
        if function is not None:
            names.add(function.name())
            ahead += [earlier for earlier, _ in function.next_functions]
    return names


@QUICK
def test_a_graph_that_is_compiled_has_torchs_own(case: str) -> None:
    (quick, _), width, shape = CASES[case]
    graph = torch.export.export(quick(4, width, **shape), (torch.randn(2, 4, 5, 7, 6),)).graph
    names = {str(node.target) for node in graph.nodes}
    assert any(name.startswith("aten.conv") for name in names)


@pytest.mark.parametrize("case", ["voxels", "depthwise", "strided", "dilated", "transposed"])
def test_no_more_is_kept_for_the_gradient_than_the_maps_and_the_kernels(case: str) -> None:
    (quick, _), width, shape = CASES[case]
    layer = quick(4, width, **shape)
    x = torch.randn(2, 4, 8, 8, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(values: torch.Tensor) -> torch.Tensor:
        kept[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        layer(x)
    own = (x, *layer.parameters())
    assert set(kept) <= {values.untyped_storage().data_ptr() for values in own}


def test_maps_without_samples_and_of_other_widths_are_as_torch_has_them() -> None:
    layer = QuickConv3d(4, 6, 1)
    assert layer(torch.zeros(0, 4, 2, 2, 2)).shape == (0, 6, 2, 2, 2)
    with pytest.raises(RuntimeError, match="channels"):
        QuickConv3d(4, 4, 3, padding=1, groups=4)(torch.randn(1, 2, 4, 4, 4))


def test_a_gradient_may_be_asked_for_of_the_maps_alone_or_the_kernels_alone() -> None:
    layer = QuickConv3d(4, 4, 3, padding=1, groups=4)
    x = torch.randn(2, 4, 5, 6, 7, requires_grad=True)
    both = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    (of_kernels,) = torch.autograd.grad(layer(x.detach()).square().sum(), layer.weight)
    layer.requires_grad_(False)
    (of_maps,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.testing.assert_close((of_maps, of_kernels), both)
