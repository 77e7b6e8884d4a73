"""Plans that keep a model's grid, normalisation, patch and network, for fine-tuning it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.choices import median_shape
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.decisions import DECISIONS, MOOT, STANDS
from autoseg.planning.expectation import explained
from autoseg.planning.facts import left_right_axis
from autoseg.planning.grid_plan import ChannelNormalization, GridPlan
from autoseg.planning.model_plan import (
    BoxesPlan,
    CandidatesPlan,
    MaskQueriesPlan,
    ModelPlan,
    ScanInput,
    TaskPlan,
)
from autoseg.planning.network_plan import BoxNetworkPlan, OneStagePlan, QueryNetworkPlan
from autoseg.planning.plan import Configuration, Decision, Plan
from autoseg.planning.planner import expect
from autoseg.planning.task_choice import OBJECT_TASKS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Channels:
    """For each channel of new data, the model's channel of its name or place; None: it has none."""

    own: tuple[str, ...]
    kept: tuple[ChannelNormalization | None, ...]
    adapted: bool  # the first layer, by `train --init`

    @property
    def new(self) -> tuple[str, ...]:
        return tuple(c for c, kept in zip(self.own, self.kept, strict=True) if kept is None)

    def text(self) -> str:
        """What becomes of the first layer."""
        new = f"; {', '.join(self.new)} begins as the mean of the model's" if self.new else ""
        taken = [kept.channel for kept in self.kept if kept is not None]
        return (
            f"`train --init` adapts the first layer by name: {', '.join(taken) or 'none'} kept{new}"
        )


def plan_like(model: Configuration, where: str, plan: Plan, inputs: PlanningInputs) -> Plan:
    """The plan of new data, with all that a model's weights and inputs depend on taken from it.

    Loss and schedule stay those of the new data; `DecisionKind.like` says what is copied. Channels
    are matched by name, as training from the model matches them, and one that it does not know is
    normalised as the data's own rules say. Raises AutosegError when the model is the second stage
    of a cascade, its configuration does not suit the data, or nobody knows its first layer.
    """
    _check_fits(model, where, plan)
    channels = _matched(model, where, plan, inputs)
    _warn_of_channels(channels, where)
    like = _configuration_like(model, plan, inputs.fingerprint, channels)
    expected = expect(inputs, like, None)
    own = [
        decision
        for decision in plan.decisions
        if decision.configuration in (None, model.name) and _stands(decision)
    ]
    why = explained(expected, like, inputs.speed)
    return plan.model_copy(
        update={
            "configurations": {model.name: like},
            "expected": {model.name: expected},
            "recommended": model.name,
            "decisions": (*_copied(like, where, channels), *own, why),
        }
    )


def _warn_of_channels(channels: _Channels, where: str) -> None:
    """Say which channels are taken for one of another name, and what training has to adapt."""
    for channel, kept in zip(channels.own, channels.kept, strict=True):
        if kept is not None and channel.casefold() != kept.channel.casefold():
            log.warning(
                "%s: channel %s is normalised as the model normalised its channel %s (%s). If they "
                "are not of one kind, do not use this model.",
                where,
                channel,
                kept.channel,
                kept.kind,
            )
    if channels.adapted:
        log.warning("%s: other channels than the dataset's. %s.", where, channels.text())


def _configuration_like(
    model: Configuration, plan: Plan, fingerprint: Fingerprint, channels: _Channels
) -> Configuration:
    base = plan.configurations[model.name]
    mirror_axes = _mirror_axes(model, base, fingerprint)
    augmentation = model.run.augmentation.model_copy(update={"mirror_axes": mirror_axes})
    inputs = (ScanInput(channels=plan.channel_names),)
    seen = {
        "mirror_axes": mirror_axes,
        "median_shape_vox": median_shape(fingerprint, model.grid),
        "smallest_object_mm": base.inference.smallest_object_mm,
    }
    return model.model_copy(
        update={
            "grid": _grid_like(model.grid, base.grid, channels),
            "model": model.model.model_copy(
                update={"inputs": inputs, "task": _task_like(model.model, base.model)}
            ),
            "run": base.run.model_copy(
                update={"batch_size": model.run.batch_size, "augmentation": augmentation}
            ),
            "inference": model.inference.model_copy(update=seen),
        }
    )


def _task_like(model: ModelPlan, base: ModelPlan) -> TaskPlan:
    """The new data's own task; masks of objects are as coarse, and as many, as the model's."""
    task, network = base.task, model.network
    if isinstance(task, MaskQueriesPlan) and isinstance(network, QueryNetworkPlan):
        theirs = {"mask_stride": network.mask_stride, "queries": network.queries}
        return task.model_copy(update=theirs)
    if isinstance(task, BoxesPlan) and isinstance(network, BoxNetworkPlan):
        return task.model_copy(update={"mask_stride": network.mask_stride})
    if isinstance(network, OneStagePlan) and isinstance(model.task, CandidatesPlan):
        kept = ("queries", "mask_stride", "spacing_mm", "sizes_mm")
        return task.model_copy(update={name: v for name, v in model.task if name in kept})
    return task


def _matched(model: Configuration, where: str, plan: Plan, inputs: PlanningInputs) -> _Channels:
    """Channels matched as a training from the model does: by name, or, where all that are there
    have other names, by their order."""
    theirs, own = model.grid.normalization, plan.channel_names
    by_name = {kept.channel.casefold(): kept for kept in theirs}
    kept = tuple(by_name.get(channel.casefold()) for channel in own)
    if len(theirs) == len(own) and not any(kept):
        return _Channels(own, theirs, adapted=False)
    same = [channel.casefold() for channel in own] == list(by_name)
    if not same and inputs.families(model.model.network.kind).sees_inputs is None:
        raise AutosegError(
            f"{where}: the model has the channels {', '.join(k.channel for k in theirs)}, the "
            f"dataset {', '.join(own)}, and it is not known which layer of "
            f"{model.model.network.kind} sees them. Give a model with the same channels."
        )
    return _Channels(own, kept, adapted=not same)


def _grid_like(grid: GridPlan, own: GridPlan, channels: _Channels) -> GridPlan:
    """The same grid, whose channels have the new data's names."""
    normalization = tuple(
        ChannelNormalization(channel=channel, **(kept or new).model_dump(exclude={"channel"}))
        for channel, kept, new in zip(channels.own, channels.kept, own.normalization, strict=True)
    )
    return grid.model_copy(update={"normalization": normalization})


def _stands(decision: Decision) -> bool:
    """Whether a decision on the new data holds beside what was copied; the machine's does."""
    kind = DECISIONS.get(decision.name)
    return decision.name == "machine" if kind is None else kind.like == STANDS


def _copied(like: Configuration, where: str, channels: _Channels) -> Iterator[Decision]:
    also = {
        "normalization": f"; {', '.join(channels.new)}, which it does not know, as the data's own "
        "rules say"
        if channels.new
        else "",
        "network": f"; {channels.text()}" if channels.adapted else "",
    }
    values = like.model_dump(mode="json")
    for kind in DECISIONS.values():
        if kind.like in (STANDS, MOOT):
            continue
        value = values
        for part in kind.like.split("."):
            value = value[part]
        yield Decision(
            name=kind.name,
            configuration=like.name,
            value=value,
            rule_id="like.model",
            because=f"kept from the model {where}, so that its weights can be used"
            + also.get(kind.name, ""),
            facts={},
            source="--like",
        )


def _mirror_axes(
    model: Configuration, base: Configuration, fingerprint: Fingerprint
) -> tuple[int, ...]:
    """The model's axes, without that from left to right where the data's own plan forbids it."""
    axes = model.run.augmentation.mirror_axes
    across = left_right_axis(fingerprint, base.grid.orientation)
    every = range(3)[-base.model.spatial_dims :]
    if across is None:
        return axes if base.run.augmentation.mirror_axes else ()
    forbidden = base.grid.axis_order.index(across)
    if forbidden in base.run.augmentation.mirror_axes or forbidden not in every:
        return axes
    own = left_right_axis(fingerprint, model.grid.orientation)
    return () if own is None else tuple(a for a in axes if a != model.grid.axis_order.index(own))


def _check_fits(model: Configuration, where: str, plan: Plan) -> None:
    if model.previous_stage is not None:
        raise AutosegError(
            f"{where}: this model is the second stage of a cascade. Give its first stage, or a "
            "model that stands alone."
        )
    if model.name not in plan.configurations:
        raise AutosegError(
            f"{where}: the model is {model.name}, but this dataset can only be planned as "
            f"{', '.join(plan.configurations)}."
        )
    kind, task = model.model.network.kind, plan.configurations[model.name].model.task.kind
    needed = OBJECT_TASKS.get(kind)
    if needed != (task if task in OBJECT_TASKS.values() else None):
        rules = "default" if needed is None else kind
        raise AutosegError(
            f"{where}: the model is a {kind}, and these rules plan another kind of task. Plan with "
            f"--rules {rules}."
        )
