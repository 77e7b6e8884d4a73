"""Plans that keep a model's grid, normalisation, patch and network, for fine-tuning it."""

from typing import Any

from autoseg.errors import AutosegError
from autoseg.planning.plan import ChannelNormalization, Configuration, Decision, Plan

KEPT = (
    "orientation",
    "axis_order",
    "target_spacing_mm",
    "patch_size_vox",
    "batch_size",
    "resampling",
    "network",
)


def plan_like(model: Configuration, where: str, plan: Plan) -> Plan:
    """The plan of new data, with all that a model's weights and inputs depend on taken from it.

    Loss, schedule and sampling stay those of the new data. Raises AutosegError when the model has
    another number of channels, is the second stage of a cascade, or its configuration does not suit
    the data.
    """
    _check_fits(model, where, plan)
    base = plan.configurations[model.name]
    normalization = tuple(
        ChannelNormalization(channel=channel, **kept.model_dump(exclude={"channel"}))
        for channel, kept in zip(plan.channel_names, model.normalization, strict=True)
    )
    mirror_axes = model.augmentation.mirror_axes
    if model.axis_order == base.axis_order:  # what left and right labels forbid stays forbidden
        mirror_axes = tuple(a for a in mirror_axes if a in base.augmentation.mirror_axes)
    sizes = zip(base.median_shape_vox, base.target_spacing_mm, model.target_spacing_mm, strict=True)
    update: dict[str, Any] = {name: getattr(model, name) for name in KEPT} | {
        "normalization": normalization,
        "median_shape_vox": tuple(size * old / new for size, old, new in sizes),
        "augmentation": model.augmentation.model_copy(update={"mirror_axes": mirror_axes}),
        "inference": model.inference.model_copy(update={"mirror_axes": mirror_axes}),
    }
    configuration = base.model_copy(update=update)
    reasons = tuple(
        Decision(
            name=name,
            configuration=model.name,
            value=configuration.model_dump(mode="json")[name],
            rule_id="like.model",
            because=f"kept from the model {where}, so that its weights can be used",
            facts={},
            source="--like",
        )
        for name in (*KEPT, "normalization")
    )
    kept_names = {reason.name for reason in reasons}
    others = tuple(
        d
        for d in plan.decisions
        if d.configuration in (None, model.name) and d.name not in kept_names
    )
    return plan.model_copy(
        update={
            "configurations": {model.name: configuration},
            "recommended": model.name,
            "decisions": (*reasons, *others),
        }
    )


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
