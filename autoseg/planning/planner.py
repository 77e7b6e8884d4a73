"""From a fingerprint to a plan: asks the rules for settings, runs the searches, records reasons."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.fingerprint import Fingerprint
from autoseg.geometry import Shape3, resampled_shape
from autoseg.machine import Machine
from autoseg.planning.facts import Facts, gather_facts, oriented_grids
from autoseg.planning.plan import (
    AugmentationPlan,
    ChannelNormalization,
    Configuration,
    ConfigurationName,
    Decision,
    InferencePlan,
    LossPlan,
    NetworkPlan,
    Plan,
)
from autoseg.planning.rules import RuleSet
from autoseg.planning.search import (
    PatchSearch,
    find_lowres_spacing,
    find_patch,
    find_target_spacing,
)
from autoseg.planning.settings import (
    AugmentationSettings,
    BatchSettings,
    MemorySettings,
)


class Deliberation:
    """Asks the rules and keeps a record of every decision."""

    def __init__(self, rules: RuleSet, facts: Facts) -> None:
        self.rules = rules
        self.facts = facts
        self.decisions: list[Decision] = []

    def settings(self, name: str, **found: Any) -> Any:
        """The settings that the rules give, knowing also what has been found so far."""
        settings, decision = self.rules.decide(name, self.facts.with_known(**found))
        self.decisions.append(decision)
        return settings

    def conclude(self, name: str, value: Any, by: str | None = None, **facts: Any) -> None:
        """Record what came out of a decision's settings; `by` names the decision if not itself."""
        index = max(i for i, d in enumerate(self.decisions) if d.name == (by or name))
        decision = self.decisions[index]
        concluded = decision.model_copy(
            update={"name": name, "value": value, "facts": decision.facts | facts}
        )
        if by is None:
            self.decisions[index] = concluded
        else:
            self.decisions.append(concluded)


def make_plan(
    fingerprint: Fingerprint, rules: RuleSet, machine: Machine, name: str | None = None
) -> Plan:
    """Decide everything about a dataset for a machine, with a reason for each decision.

    Raises AutosegError when the data cannot be planned for: 2D images, or too little memory.
    """
    names: list[ConfigurationName] = ["2d", "3d_fullres"] if _has_depth(fingerprint) else ["2d"]
    configurations: dict[ConfigurationName, Configuration] = {}
    decisions = [_machine_decision(machine)]
    for configuration_name in names:
        ask = Deliberation(rules, gather_facts(fingerprint, machine, configuration_name))
        configurations[configuration_name] = _plan_configuration(
            configuration_name, fingerprint, ask
        )
        decisions += ask.decisions
    return Plan(
        name=name or rules.name,
        rule_set=rules.name,
        machine=machine,
        labels=fingerprint.labels,
        channel_names=fingerprint.channel_names,
        configurations=configurations,
        recommended=names[-1],
        decisions=tuple(decisions),
    )


def _has_depth(fingerprint: Fingerprint) -> bool:
    """Whether the scans are volumes, and not single slices."""
    return float(np.median([min(case.cropped_shape_vox) for case in fingerprint.cases])) > 1


def _plan_configuration(
    name: ConfigurationName, fingerprint: Fingerprint, ask: Deliberation
) -> Configuration:
    spatial_dims: Literal[2, 3] = 2 if name == "2d" else 3
    orientation = ask.settings("orientation")
    spacings_mm, shapes_vox = oriented_grids(fingerprint, orientation)
    target_mm = find_target_spacing(spacings_mm, shapes_vox, ask.settings("target_spacing_mm"))
    median_vox = _median_resampled_shape(spacings_mm, shapes_vox, target_mm)
    axis_order = _axis_order(target_mm, ask.settings("axis_order"))
    ask.conclude("axis_order", axis_order)
    dataset_voxels = float(np.prod(median_vox)) * len(fingerprint.cases)
    planned_axes = list(axis_order)[-spatial_dims:]
    target_mm, median_vox = target_mm[planned_axes], median_vox[planned_axes]
    ask.conclude("target_spacing_mm", target_mm.tolist())

    search = PatchSearch(
        spacing_mm=tuple(target_mm.tolist()),
        median_shape_vox=tuple(median_vox.tolist()),
        class_count=len(fingerprint.labels.values),
        memory_gb=_memory_gb(ask),
        patch=ask.settings("patch_size_vox"),
        network=ask.settings("network"),
        pooling=ask.settings("pooling"),
    )
    patch_vox, network, elements = find_patch(search)
    _conclude_network(ask, search, patch_vox, network, elements)
    patch_fraction = float(np.prod(patch_vox) / np.prod(median_vox))
    found = {"patch_fraction_of_median_image": patch_fraction}
    lowres_settings = ask.settings("lowres_spacing_mm", **found)
    lowres_mm = find_lowres_spacing(search, patch_vox, lowres_settings)
    ask.conclude("lowres_spacing_mm", lowres_mm)
    mirror_axes = tuple(range(3))[-spatial_dims:] if ask.settings("mirror_axes") == "all" else ()
    ask.conclude("mirror_axes", mirror_axes)
    return Configuration(
        name=name,
        spatial_dims=spatial_dims,
        orientation=orientation,
        axis_order=axis_order,
        target_spacing_mm=search.spacing_mm,
        median_shape_vox=search.median_shape_vox,
        patch_size_vox=patch_vox,
        batch_size=_batch_size(search, patch_vox, elements, dataset_voxels, ask),
        normalization=_normalization(fingerprint, ask),
        resampling=ask.settings("resampling"),
        network=network,
        loss=LossPlan(
            **ask.settings("loss").model_dump(),
            batch_dice=ask.settings(
                "batch_dice",
                patch_fraction_of_median_image=patch_fraction,
                lowres_helps=lowres_mm is not None,
            ),
        ),
        augmentation=_augmentation(patch_vox, mirror_axes, ask),
        training=ask.settings("training"),
        inference=InferencePlan(**ask.settings("inference").model_dump(), mirror_axes=mirror_axes),
    )


def _conclude_network(
    ask: Deliberation,
    search: PatchSearch,
    patch: tuple[int, ...],
    network: NetworkPlan,
    elements: int,
) -> None:
    ask.conclude(
        "patch_size_vox",
        patch,
        median_shape_vox=search.median_shape_vox,
        memory_gb=search.memory_gb,
        estimated_elements=elements,
        allowed_elements=round(search.reference_elements),
    )
    ask.conclude("network", network.kind, stages=len(network.stages))
    ask.conclude("features", [stage.features for stage in network.stages], by="network")
    ask.conclude(
        "pooling",
        [stage.stride for stage in network.stages],
        target_spacing_mm=search.spacing_mm,
        patch_size_vox=patch,
    )
    ask.conclude("kernel_sizes", [stage.kernel_size for stage in network.stages], by="pooling")


def _batch_size(
    search: PatchSearch,
    patch: tuple[int, ...],
    elements: int,
    dataset_voxels: float,
    ask: Deliberation,
) -> int:
    settings: BatchSettings = ask.settings("batch_size")
    fits = round(search.reference_elements / elements * search.patch.reference_batch)
    share = round(dataset_voxels * settings.max_dataset_fraction / float(np.prod(patch)))
    batch_size = max(min(fits, share, settings.maximum or fits), settings.minimum)
    ask.conclude("batch_size", batch_size, fits_into_memory=fits, dataset_share_allows=share)
    return batch_size


def _memory_gb(ask: Deliberation) -> float:
    settings: MemorySettings = ask.settings("memory_gb")
    if settings.fixed_gb is not None:
        memory_gb = settings.fixed_gb
    else:
        memory_gb = ask.facts.gpu_memory_gb * (settings.gpu_fraction or 1.0)
    ask.conclude("memory_gb", memory_gb)
    return memory_gb


def _median_resampled_shape(
    spacings_mm: NDArray[np.float64], shapes_vox: NDArray[np.int64], target_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    target = (float(target_mm[0]), float(target_mm[1]), float(target_mm[2]))
    shapes = [
        resampled_shape(tuple(shape), tuple(spacing), target)
        for shape, spacing in zip(shapes_vox.tolist(), spacings_mm.tolist(), strict=True)
    ]
    median: NDArray[np.float64] = np.median(shapes, axis=0)
    return median


def _axis_order(target_mm: NDArray[np.float64], choice: str) -> Shape3:
    if choice == "as_is":
        return (0, 1, 2)
    coarsest = int(np.argmax(target_mm))
    first, second = (axis for axis in range(3) if axis != coarsest)
    return coarsest, first, second


def _normalization(fingerprint: Fingerprint, ask: Deliberation) -> tuple[ChannelNormalization, ...]:
    masked = ask.settings("normalization_mask")
    channels = []
    for channel, statistics in zip(
        fingerprint.channel_names, fingerprint.foreground_intensity, strict=True
    ):
        kind = ask.settings("normalization", channel_name=channel.casefold()).kind
        ask.conclude("normalization", kind, channel_name=channel)
        channels.append(
            ChannelNormalization(
                channel=channel,
                kind=kind,
                masked=masked and kind == "zscore",
                statistics=statistics,
            )
        )
    return tuple(channels)


def _augmentation(
    patch: tuple[int, ...], mirror_axes: tuple[int, ...], ask: Deliberation
) -> AugmentationPlan:
    settings: AugmentationSettings = ask.settings("augmentation")
    flat = len(patch) == 2
    planar = flat or max(patch) / patch[0] > settings.planar_ratio
    values = settings.model_dump(include=set(AugmentationPlan.model_fields))
    if flat and max(patch) / min(patch) > settings.elongated_slice_ratio:
        values["rotation_degrees"] = settings.elongated_slice_rotation_degrees
    elif planar:
        values["rotation_degrees"] = settings.planar_rotation_degrees
    plan = AugmentationPlan(planar=planar, mirror_axes=mirror_axes, **values)
    ask.conclude("augmentation", plan.model_dump(mode="json"), patch_size_vox=patch)
    return plan


def _machine_decision(machine: Machine) -> Decision:
    where = "no NVIDIA GPU" if machine.gpu_name is None else f"{machine.gpu_memory_gb:g} GiB of GPU"
    return Decision(
        name="machine",
        configuration=None,
        value=machine.device,
        rule_id="machine.detected_or_given",
        because=f"planned for a machine with {where}, {machine.cores} cores, "
        f"{machine.memory_gb:g} GiB of memory",
        facts=machine.model_dump(mode="json"),
        source="this computer, or --for",
    )
