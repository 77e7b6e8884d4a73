"""What a network of any kind costs, traced on torch's meta device: shapes flow, no voxel does."""

from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from autoseg.networks.family import Build, all_outputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.model_plan import ModelPlan

FLOPS_PER_MULTIPLY_ADD = 2
# Attention as processors and GPUs compute it, which keeps no matrix of all pairs; and what counts
# its operations.
FUSED_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
COUNTED_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention


def trace(build: Build, model: ModelPlan) -> NetworkCost:
    """The cost of one patch through a planned network, forward and kept for the way back.

    A network that looks at values while it is built, or run, is traced in memory, with real ones.
    On the meta device layers that are our own where a CPU trains are counted as torch's.
    """
    for device in ("meta", "cpu"):
        try:
            return _traced(build, model, torch.device(device))
        except (RuntimeError, NotImplementedError):  # what the meta device raises
            if device == "cpu":
                raise
    raise AssertionError("unreachable")


def _traced(build: Build, model: ModelPlan, device: torch.device) -> NetworkCost:
    with torch.random.fork_rng(devices=[]), device:
        network = build(model.network, len(model.channel_names), model.task.outputs)
        image = torch.zeros(1, len(model.channel_names), *model.patch_size_vox)
    kept = _KeptTensors(network)
    with _Fused(), _Counter() as counter, saved_tensors_hooks(kept.add, _as_it_is):
        outputs = all_outputs(network, image, model.network)
    return NetworkCost(
        elements=counter.elements,
        multiply_adds=counter.flops // FLOPS_PER_MULTIPLY_ADD,
        kept_bytes=kept.bytes,
        weights=sum(parameter.numel() for parameter in network.parameters()),
        output_voxels=sum(leaf.numel() for leaf in tree_leaves(outputs)) // model.task.outputs,
    )


class _Fused(TorchFunctionMode):
    """Attention that is fused on the meta device too, where torch would keep what it weighs.

    That of several heads [batch, head, token, feature], without dropout, which our networks have;
    other attention, and that inside torch's own layers, is counted as torch computes it there.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> torch.Tensor:
    """What torch's attention gives, which has the same arguments."""
    if query.ndim != 4 or dropout_p or more:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, **more
        )
    fused: torch.Tensor = FUSED_ATTENTION(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask
    )[0]
    return fused


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what convolutions and matrix products write, and their floating point operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        fused = func.overloadpacket is FUSED_ATTENTION
        count = flop_registry.get(COUNTED_ATTENTION if fused else func.overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **(kwargs or {}), out_val=out))
            self.elements += out.numel() if isinstance(out, torch.Tensor) else out[0].numel()
        return out


class _KeptTensors:
    """Adds up tensors that are kept for the way back: each memory once, and no weights."""

    def __init__(self, network: nn.Module) -> None:
        self.seen = {_memory_of(parameter) for parameter in network.parameters()}
        self.bytes = 0

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        memory = _memory_of(tensor)
        if memory not in self.seen:
            self.seen.add(memory)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


def _memory_of(tensor: torch.Tensor) -> Any:
    """What views of one tensor have in common."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
