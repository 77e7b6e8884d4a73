"""Plans that keep a model's grid, normalisation, patch and network, for fine-tuning it."""

import logging

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.expectation import PUBLISHED_GIB_PER_ELEMENT, expectation
from autoseg.planning.facts import left_right_axis
from autoseg.planning.plan import ChannelNormalization, Configuration, Decision, Plan
from autoseg.planning.planner import median_shape

log = logging.getLogger(__name__)

# What is kept, and which decisions of the new data's own plan still stand.
KEPT = (
    "orientation",
    "axis_order",
    "target_spacing_mm",
    "patch_size_vox",
    "batch_size",
    "normalization",
    "resampling",
    "network",
    "augmentation",
    "inference",
)
OWN = ("machine", "loss", "batch_dice", "training", "recommended")


def plan_like(model: Configuration, where: str, plan: Plan, fingerprint: Fingerprint) -> Plan:
    """The plan of new data, with all that a model's weights and inputs depend on taken from it.

    Loss and schedule stay those of the new data. Raises AutosegError when the model has another
    number of channels, is the second stage of a cascade, or its configuration does not suit the
    data.
    """
    _check_fits(model, where, plan)
    for channel, kept in zip(plan.channel_names, model.normalization, strict=True):
        if channel.casefold() != kept.channel.casefold():
            log.warning(
                "%s: channel %s is normalised as the model normalised its channel %s (%s). If they "
                "are not of one kind, do not use this model.",
                where,
                channel,
                kept.channel,
                kept.kind,
            )
    base = plan.configurations[model.name]
    normalization = tuple(
        ChannelNormalization(channel=channel, **kept.model_dump(exclude={"channel"}))
        for channel, kept in zip(plan.channel_names, model.normalization, strict=True)
    )
    mirror_axes = _mirror_axes(model, base, fingerprint)
    like = model.model_copy(
        update={
            "normalization": normalization,
            "median_shape_vox": median_shape(fingerprint, model),
            "augmentation": model.augmentation.model_copy(update={"mirror_axes": mirror_axes}),
            "inference": model.inference.model_copy(update={"mirror_axes": mirror_axes}),
            "loss": base.loss,
            "training": base.training,
        }
    )
    values = like.model_dump(mode="json")
    reasons = [
        Decision(
            name=name,
            configuration=model.name,
            value=values[name],
            rule_id="like.model",
            because=f"kept from the model {where}, so that its weights can be used",
            facts={},
            source="--like",
        )
        for name in KEPT
    ]
    own = [d for d in plan.decisions if d.configuration in (None, model.name) and d.name in OWN]
    expected = expectation(like, fingerprint, plan.machine, PUBLISHED_GIB_PER_ELEMENT)
    return plan.model_copy(
        update={
            "configurations": {model.name: like},
            "recommended": model.name,
            "decisions": (*reasons, *own, expected),
        }
    )


def _mirror_axes(
    model: Configuration, base: Configuration, fingerprint: Fingerprint
) -> tuple[int, ...]:
    """The model's axes, without that from left to right where the data's own plan forbids it."""
    axes = model.augmentation.mirror_axes
    across = left_right_axis(fingerprint, base.orientation)
    every = range(3)[-base.spatial_dims :]
    if across is None:
        return axes if base.augmentation.mirror_axes else ()
    forbidden = base.axis_order.index(across)
    if forbidden in base.augmentation.mirror_axes or forbidden not in every:
        return axes
    own = left_right_axis(fingerprint, model.orientation)
    return () if own is None else tuple(a for a in axes if a != model.axis_order.index(own))


def _check_fits(model: Configuration, where: str, plan: Plan) -> None:
    if len(model.normalization) != len(plan.channel_names):
        raise AutosegError(
            f"{where}: the model has {len(model.normalization)} channels, but the dataset has "
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
