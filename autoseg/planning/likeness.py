"""Plans that keep a model's grid, normalisation, patch and network, for fine-tuning it."""

import logging
from collections.abc import Iterator

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.choices import median_shape
from autoseg.planning.decisions import DECISIONS, MOOT, STANDS
from autoseg.planning.expectation import explained
from autoseg.planning.facts import left_right_axis
from autoseg.planning.grid_plan import ChannelNormalization, GridPlan
from autoseg.planning.model_plan import ScanInput
from autoseg.planning.plan import Configuration, Decision, Plan
from autoseg.planning.planner import PlanningInputs, expect

log = logging.getLogger(__name__)


def plan_like(model: Configuration, where: str, plan: Plan, inputs: PlanningInputs) -> Plan:
    """The plan of new data, with all that a model's weights and inputs depend on taken from it.

    Loss and schedule stay those of the new data; `DecisionKind.like` says what is copied. Raises
    AutosegError when the model has another number of channels, is the second stage of a cascade,
    or its configuration does not suit the data.
    """
    _check_fits(model, where, plan)
    for channel, kept in zip(plan.channel_names, model.grid.normalization, strict=True):
        if channel.casefold() != kept.channel.casefold():
            log.warning(
                "%s: channel %s is normalised as the model normalised its channel %s (%s). If they "
                "are not of one kind, do not use this model.",
                where,
                channel,
                kept.channel,
                kept.kind,
            )
    like = _configuration_like(model, plan, inputs.fingerprint)
    expected = expect(inputs, like, None)
    own = [
        decision
        for decision in plan.decisions
        if decision.configuration in (None, model.name) and _stands(decision)
    ]
    why = explained(expected, like, inputs.multiply_adds_per_second)
    return plan.model_copy(
        update={
            "configurations": {model.name: like},
            "expected": {model.name: expected},
            "recommended": model.name,
            "decisions": (*_copied(like, where), *own, why),
        }
    )


def _configuration_like(
    model: Configuration, plan: Plan, fingerprint: Fingerprint
) -> Configuration:
    base = plan.configurations[model.name]
    mirror_axes = _mirror_axes(model, base, fingerprint)
    augmentation = model.run.augmentation.model_copy(update={"mirror_axes": mirror_axes})
    inputs = (ScanInput(channels=plan.channel_names),)
    seen = {"mirror_axes": mirror_axes, "median_shape_vox": median_shape(fingerprint, model.grid)}
    return model.model_copy(
        update={
            "grid": _grid_like(model.grid, plan.channel_names),
            "model": model.model.model_copy(update={"inputs": inputs, "task": base.model.task}),
            "run": base.run.model_copy(
                update={"batch_size": model.run.batch_size, "augmentation": augmentation}
            ),
            "inference": model.inference.model_copy(update=seen),
        }
    )


def _grid_like(grid: GridPlan, channels: tuple[str, ...]) -> GridPlan:
    """The same grid, whose channels have the new data's names."""
    normalization = tuple(
        ChannelNormalization(channel=channel, **kept.model_dump(exclude={"channel"}))
        for channel, kept in zip(channels, grid.normalization, strict=True)
    )
    return grid.model_copy(update={"normalization": normalization})


def _stands(decision: Decision) -> bool:
    """Whether a decision on the new data holds beside what was copied; the machine's does."""
    kind = DECISIONS.get(decision.name)
    return decision.name == "machine" if kind is None else kind.like == STANDS


def _copied(like: Configuration, where: str) -> Iterator[Decision]:
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
            because=f"kept from the model {where}, so that its weights can be used",
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
    if len(model.grid.normalization) != len(plan.channel_names):
        raise AutosegError(
            f"{where}: the model has {len(model.grid.normalization)} channels, but the dataset has "
            f"{len(plan.channel_names)} ({', '.join(plan.channel_names)}). Give a model of as many."
        )
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
