"""From a fingerprint to a plan: asks the rules for settings, runs the searches, records reasons."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Orientation, Shape3
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.planning.decisions import (
    AugmentationSettings,
    BatchSettings,
    ClassWeighting,
    LossSettings,
    MemorySettings,
)
from autoseg.planning.expectation import expectation
from autoseg.planning.facts import Facts, gather_facts, left_right_axis, oriented_grids
from autoseg.planning.plan import (
    AugmentationPlan,
    ChannelNormalization,
    Configuration,
    ConfigurationName,
    Decision,
    InferencePlan,
    LossPlan,
    Plan,
)
from autoseg.planning.rules import RuleSet
from autoseg.planning.search import (
    FoundPatch,
    PatchSearch,
    find_lowres,
    find_patch,
    find_target_spacing,
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

    def add_reason(self, name: str, reason: str) -> None:
        """Append what became of a decision to its reason."""
        index = max(i for i, d in enumerate(self.decisions) if d.name == name)
        because = f"{self.decisions[index].because}; {reason}"
        self.decisions[index] = self.decisions[index].model_copy(update={"because": because})


@dataclass(frozen=True, slots=True)
class PlanGrid:
    """The grid that scans are put on: target spacing and median scan in the plan's axis order."""

    orientation: Orientation
    axis_order: Shape3
    target_mm: tuple[float, ...]
    median_vox: tuple[float, ...]
    left_right_axis: int | None  # of the plan's axes; None where it differs between scans


def make_plan(
    fingerprint: Fingerprint,
    rules: RuleSet,
    machine: Machine,
    name: str | None = None,
    memory_factor: float = 1.0,
) -> Plan:
    """Decide everything about a dataset for a machine, with a reason for each decision.

    `memory_factor` corrects the memory to plan for, where measuring has shown that the estimate is
    off. Raises AutosegError when the data cannot be planned for: too few voxels, or too little
    memory.
    """
    configurations: dict[ConfigurationName, Configuration] = {}
    decisions = [_machine_decision(machine)]

    def add(configuration: ConfigurationName, coarser: PatchSearch | None) -> PatchSearch | None:
        ask = Deliberation(rules, gather_facts(fingerprint, machine, configuration))
        planned, search, lowres = _plan_configuration(fingerprint, ask, memory_factor, coarser)
        configurations[configuration] = planned
        decisions.extend(ask.decisions)
        decisions.append(expectation(planned, fingerprint, machine, search.gib_per_element))
        return lowres

    add("2d", None)
    if _has_depth(fingerprint, rules, machine):
        coarser = add("3d_fullres", None)
        if coarser is not None:
            add("3d_lowres", coarser)
            configurations["3d_cascade_fullres"] = configurations["3d_fullres"].model_copy(
                update={"name": "3d_cascade_fullres", "previous_stage": "3d_lowres"}
            )
            decisions += [
                decision.model_copy(update={"configuration": "3d_cascade_fullres"})
                for decision in decisions
                if decision.configuration == "3d_fullres"
            ]
    recommended, decision = _recommend(configurations, rules, fingerprint, machine)
    return Plan(
        name=name or rules.name,
        rule_set=rules.name,
        machine=machine,
        labels=fingerprint.labels,
        channel_names=fingerprint.channel_names,
        configurations=configurations,
        recommended=recommended,
        decisions=(*decisions, decision),
    )


def _has_depth(fingerprint: Fingerprint, rules: RuleSet, machine: Machine) -> bool:
    """Whether the median scan is a volume on the plan's grid, and not a single slice."""
    ask = Deliberation(rules, gather_facts(fingerprint, machine, "3d_fullres"))
    return _choose_grid(fingerprint, ask).median_vox[0] != 1


def _recommend(
    configurations: dict[ConfigurationName, Configuration],
    rules: RuleSet,
    fingerprint: Fingerprint,
    machine: Machine,
) -> tuple[ConfigurationName, Decision]:
    """The first configuration of the rules' preference that there is."""
    facts = gather_facts(fingerprint, machine, list(configurations)[-1])
    preference, decision = rules.decide("recommended", facts)
    chosen: ConfigurationName | None = next((n for n in preference if n in configurations), None)
    if chosen is None:
        raise AutosegError(
            f"Rule {decision.rule_id} recommends {', '.join(preference)}, but this dataset is "
            f"planned as {', '.join(configurations)}. Add one of these to the rule."
        )
    return chosen, decision.model_copy(update={"configuration": None, "value": chosen})


def _choose_grid(fingerprint: Fingerprint, ask: Deliberation) -> PlanGrid:
    orientation: Orientation = ask.settings("orientation")
    spacings_mm, shapes_vox = oriented_grids(fingerprint, orientation)
    target_mm = find_target_spacing(spacings_mm, shapes_vox, ask.settings("target_spacing_mm"))
    median_vox = _median_resampled_shape(spacings_mm, shapes_vox, target_mm)
    axis_order = _axis_order(target_mm, ask.settings("axis_order"))
    ask.conclude("axis_order", axis_order)
    left_right = left_right_axis(fingerprint, orientation)
    return PlanGrid(
        orientation=orientation,
        axis_order=axis_order,
        target_mm=tuple(float(target_mm[axis]) for axis in axis_order),
        median_vox=tuple(float(median_vox[axis]) for axis in axis_order),
        left_right_axis=None if left_right is None else axis_order.index(left_right),
    )


def _search_of(
    grid: PlanGrid, ask: Deliberation, memory_factor: float, coarser: PatchSearch | None
) -> PatchSearch:
    """What to search a patch with: at the grid's spacing, or at that of a coarser search."""
    dims = 2 if ask.facts.configuration == "2d" else 3
    search = PatchSearch(
        spacing_mm=grid.target_mm[-dims:],
        median_shape_vox=grid.median_vox[-dims:],
        median_voxels=float(np.prod(grid.median_vox)),
        class_count=ask.facts.class_count,
        memory_gib=_memory_gib(ask, memory_factor),
        patch=ask.settings("patch_size_vox"),
        network=ask.settings("network"),
        pooling=ask.settings("pooling"),
    )
    if coarser is not None:
        search = replace(
            search,
            spacing_mm=coarser.spacing_mm,
            median_shape_vox=coarser.median_shape_vox,
            median_voxels=coarser.median_voxels,
        )
    ask.conclude("target_spacing_mm", search.spacing_mm)
    return search


def _plan_configuration(
    fingerprint: Fingerprint, ask: Deliberation, memory_factor: float, coarser: PatchSearch | None
) -> tuple[Configuration, PatchSearch, PatchSearch | None]:
    """A configuration, its search, and that for a coarser one where it would see more context."""
    name = ask.facts.configuration
    grid = _choose_grid(fingerprint, ask)
    search = _search_of(grid, ask, memory_factor, coarser)
    patch = find_patch(search)
    _conclude_network(ask, search, patch)
    fraction = float(np.prod(patch.size_vox) / np.prod(search.median_shape_vox))
    lowres = _lowres(search, patch, fraction, ask) if name == "3d_fullres" else None
    mirror_axes = _mirror_axes(grid, ask)
    configuration = Configuration(
        name=name,
        spatial_dims=2 if name == "2d" else 3,
        orientation=grid.orientation,
        axis_order=grid.axis_order,
        target_spacing_mm=search.spacing_mm,
        median_shape_vox=search.median_shape_vox,
        patch_size_vox=patch.size_vox,
        batch_size=_batch_size(search, patch, len(fingerprint.cases), ask),
        normalization=_normalization(fingerprint, ask),
        resampling=ask.settings("resampling"),
        network=patch.network,
        loss=_loss(fingerprint, ask, fraction, lowres_helps=lowres is not None),
        augmentation=_augmentation(patch.size_vox, mirror_axes, ask),
        training=ask.settings("training"),
        inference=InferencePlan(**ask.settings("inference").model_dump(), mirror_axes=mirror_axes),
    )
    return configuration, search, lowres


def _lowres(
    search: PatchSearch, patch: FoundPatch, fraction: float, ask: Deliberation
) -> PatchSearch | None:
    settings = ask.settings("lowres_spacing_mm", patch_fraction_of_median_image=fraction)
    coarser = find_lowres(search, patch.size_vox, settings)
    ask.conclude("lowres_spacing_mm", None if coarser is None else coarser.spacing_mm)
    return coarser


def _mirror_axes(grid: PlanGrid, ask: Deliberation) -> tuple[int, ...]:
    """Axes of prepared scans to mirror; in two dimensions never across slices."""
    choice = ask.settings("mirror_axes")
    axes: tuple[int, ...] = (1, 2) if ask.facts.configuration == "2d" else (0, 1, 2)
    if choice == "none" or (choice == "not_left_right" and grid.left_right_axis is None):
        axes = ()
    elif choice == "not_left_right":
        axes = tuple(axis for axis in axes if axis != grid.left_right_axis)
    ask.conclude("mirror_axes", axes)
    return axes


def _conclude_network(ask: Deliberation, search: PatchSearch, patch: FoundPatch) -> None:
    stages = patch.network.stages
    ask.conclude(
        "patch_size_vox",
        patch.size_vox,
        median_shape_vox=search.median_shape_vox,
        memory_gib=search.memory_gib,
        estimated_elements=patch.elements,
        allowed_elements=round(search.reference_elements),
    )
    if not patch.shrunk:
        ask.add_reason("patch_size_vox", "here the median scan fits as a whole")
    ask.conclude("network", patch.network.kind, stages=len(stages))
    ask.conclude("features", [stage.features for stage in stages], by="network")
    ask.conclude(
        "pooling",
        [stage.stride for stage in stages],
        target_spacing_mm=search.spacing_mm,
        patch_size_vox=patch.size_vox,
    )
    ask.conclude("kernel_sizes", [stage.kernel_size for stage in stages], by="pooling")


def _batch_size(search: PatchSearch, patch: FoundPatch, cases: int, ask: Deliberation) -> int:
    settings: BatchSettings = ask.settings("batch_size")
    exactly = search.reference_elements / patch.elements * search.patch.reference_batch
    fits = round(exactly) if settings.fill == "rest_of_memory" else int(exactly)
    if settings.fill == "whole_patch" and patch.shrunk:
        fits = min(fits, search.patch.fitting_batch)
    voxels = search.median_voxels * cases * settings.max_dataset_fraction
    share = round(voxels / float(np.prod(patch.size_vox)))
    batch_size = max(min(fits, share, settings.maximum or fits), settings.minimum)
    ask.conclude("batch_size", batch_size, fits_into_memory=fits, dataset_share_allows=share)
    return batch_size


def _memory_gib(ask: Deliberation, factor: float) -> float:
    settings: MemorySettings = ask.settings("memory_gib")
    if settings.fixed_gib is not None:
        memory_gib = settings.fixed_gib
    else:
        memory_gib = ask.facts.gpu_memory_gib * (settings.gpu_fraction or 1.0)
    memory_gib *= factor
    ask.conclude("memory_gib", memory_gib, measured_factor=factor)
    return memory_gib


def _median_resampled_shape(
    spacings_mm: NDArray[np.float64], shapes_vox: NDArray[np.int64], target_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The median shape at the target spacing, of single slices too.

    A slice thinner than half the target counts 0 here, as in the published heuristics, although it
    becomes a single one: else slices of unlike thickness would seem to be volumes.
    """
    resampled = np.rint(spacings_mm / target_mm * shapes_vox)
    median: NDArray[np.float64] = np.maximum(np.median(resampled, axis=0), 1)
    return median


def median_shape(fingerprint: Fingerprint, configuration: Configuration) -> tuple[float, ...]:
    """The median scan on a configuration's grid, in its axis order."""
    spacings_mm, shapes_vox = oriented_grids(fingerprint, configuration.orientation)
    order, target = list(configuration.axis_order), configuration.target_spacing_mm
    planned_mm, planned_vox = spacings_mm[:, order], shapes_vox[:, order]
    if len(target) == 2:  # slices keep their distance
        whole = np.array([np.median(planned_mm[:, 0]), *target])
    else:
        whole = np.array(target)
    shape = _median_resampled_shape(planned_mm, planned_vox, whole)
    return tuple(shape[-len(target) :].tolist())


def _axis_order(target_mm: NDArray[np.float64], choice: str) -> Shape3:
    if choice == "as_is":
        return (0, 1, 2)
    coarsest = int(np.argmax(target_mm))
    first, second = (axis for axis in range(3) if axis != coarsest)
    return coarsest, first, second


def _loss(
    fingerprint: Fingerprint, ask: Deliberation, fraction: float, lowres_helps: bool
) -> LossPlan:
    settings: LossSettings = ask.settings("loss")
    batch_dice = ask.settings(
        "batch_dice", patch_fraction_of_median_image=fraction, lowres_helps=lowres_helps
    )
    return LossPlan(
        **settings.model_dump(exclude={"class_weighting"}),
        batch_dice=batch_dice,
        class_weights=class_weights(fingerprint, settings.class_weighting),
        regions=fingerprint.labels.region_classes(),
    )


def class_weights(fingerprint: Fingerprint, weighting: ClassWeighting) -> tuple[float, ...] | None:
    """One weight for each class, the background first; 0 for a class that no scan has."""
    if weighting == "none":
        return None
    foreground = np.array([stats.image_fraction for stats in fingerprint.classes])
    frequency = np.array([1 - foreground.sum(), *foreground])
    if weighting == "median_frequency":  # in the scans that have the class
        share = np.array([1, *(stats.case_fraction for stats in fingerprint.classes)])
        frequency = np.divide(frequency, share, out=np.zeros_like(frequency), where=share > 0)
    present = frequency > 0
    inverse = np.divide(1, frequency, out=np.zeros_like(frequency), where=present)
    if weighting == "median_frequency":
        scale = float(np.median(frequency[present]))
    else:
        scale = 1 / float(inverse[present].mean())
    return tuple((inverse * scale).tolist())


def _normalization(fingerprint: Fingerprint, ask: Deliberation) -> tuple[ChannelNormalization, ...]:
    masked = ask.settings("normalization_mask")
    with_ignore = ask.settings("foreground_intensity") == "with_ignore"
    intensity = fingerprint.foreground_intensity
    if with_ignore and fingerprint.intensity_with_ignore is not None:
        intensity = fingerprint.intensity_with_ignore
    channels = []
    for channel, statistics in zip(fingerprint.channel_names, intensity, strict=True):
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


def augmentation_plan(
    settings: AugmentationSettings, patch: tuple[int, ...], mirror_axes: tuple[int, ...]
) -> AugmentationPlan:
    """The augmentation of patches of a size: in plane only where they are flat."""
    flat = len(patch) == 2
    planar = flat or max(patch) / patch[0] > settings.planar_ratio
    values = settings.model_dump(include=set(AugmentationPlan.model_fields))
    if flat and max(patch) / min(patch) > settings.elongated_slice_ratio:
        values["rotation_degrees"] = settings.elongated_slice_rotation_degrees
    elif planar:
        values["rotation_degrees"] = settings.planar_rotation_degrees
    return AugmentationPlan(planar=planar, mirror_axes=mirror_axes, **values)


def _augmentation(
    patch: tuple[int, ...], mirror_axes: tuple[int, ...], ask: Deliberation
) -> AugmentationPlan:
    plan = augmentation_plan(ask.settings("augmentation"), patch, mirror_axes)
    ask.conclude("augmentation", plan.model_dump(mode="json"), patch_size_vox=patch)
    return plan


def _machine_decision(machine: Machine) -> Decision:
    where = (
        "no NVIDIA GPU" if machine.gpu_name is None else f"{machine.gpu_memory_gib:g} GiB of GPU"
    )
    return Decision(
        name="machine",
        configuration=None,
        value=machine.device,
        rule_id="machine.detected_or_given",
        because=f"planned for a machine with {where}, {machine.cores} cores, "
        f"{machine.memory_gib:g} GiB of memory",
        facts=machine.model_dump(mode="json"),
        source="this computer, or --for",
    )
