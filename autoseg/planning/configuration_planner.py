"""From a fingerprint to a configuration: asks the rules for settings, runs the searches, records
reasons."""

from dataclasses import dataclass, replace

import numpy as np

from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.planning.anchor_search import conclude_anchors
from autoseg.planning.choices import (
    MedianGrid,
    choose_augmentation,
    choose_batch_size,
    choose_grid,
    choose_loss,
    choose_memory_gib,
    choose_mirror_axes,
    choose_normalization,
)
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import (
    INFERENCE,
    LOWRES_SPACING,
    NETWORK,
    PATCH_SIZE,
    POOLING,
    RESAMPLING,
    TARGET_SPACING,
    TRAINING,
)
from autoseg.planning.expectation import Speed, assumed_speed
from autoseg.planning.facts import gather_facts
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.model_plan import (
    ConfigurationName,
    ModelPlan,
    ScanInput,
    TaskPlan,
)
from autoseg.planning.network_plan import BoxNetworkPlan
from autoseg.planning.plan import Configuration, InferencePlan
from autoseg.planning.rules import RuleSet
from autoseg.planning.run_plan import RunPlan
from autoseg.planning.search import Families, FoundPatch, PatchSearch, find_lowres, find_patch
from autoseg.planning.task_choice import choose_task, expected_objects


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """What plans are made from: the data, the rules, a machine, and the networks that there are.

    `memory_factor` corrects the memory to plan for, where measuring has shown that the estimate is
    off, or time is short. `rate` is what the machine was measured to compute, in multiply-adds a
    second. With `hours_given` the user said how long a fold may take.
    """

    fingerprint: Fingerprint
    rules: RuleSet
    machine: Machine
    families: Families
    memory_factor: float = 1.0
    rate: float | None = None
    hours_given: bool = False

    @property
    def speed(self) -> Speed:
        return assumed_speed(self.machine) if self.rate is None else Speed(self.rate)

    def log_for(self, configuration: ConfigurationName) -> DecisionLog:
        """A log of what the rules decide for a configuration."""
        facts = gather_facts(self.fingerprint, self.machine, configuration)
        return DecisionLog(self.rules, facts.with_known(hours_given=self.hours_given))


@dataclass(frozen=True, slots=True)
class Planned:
    """A configuration, its search, and that for a coarser one where it would see more context."""

    configuration: Configuration
    search: PatchSearch
    lowres: PatchSearch | None


def plan_configuration(
    inputs: PlanningInputs, log: DecisionLog, coarser: PatchSearch | None
) -> Planned:
    """What the rules decide for the log's configuration; at the spacing of a coarser search if one
    is given."""
    fingerprint, name = inputs.fingerprint, log.facts.configuration
    grid = choose_grid(fingerprint, log)
    search = _search_of(grid, inputs, log, coarser)
    patch = find_patch(search)
    _conclude_network(log, search, patch)
    fraction = float(np.prod(patch.size_vox) / np.prod(search.median_shape_vox))
    lowres = _lowres(search, patch, fraction, log) if name == "3d_fullres" else None
    mirror_axes = choose_mirror_axes(grid, log)
    batch_size = choose_batch_size(search, patch, len(fingerprint.cases), log)
    inference = log.settings(INFERENCE)
    configuration = Configuration(
        name=name,
        grid=GridPlan(
            orientation=grid.orientation,
            axis_order=grid.axis_order,
            target_spacing_mm=search.spacing_mm,
            normalization=choose_normalization(fingerprint, log),
            resampling=log.settings(RESAMPLING),
        ),
        model=_model(fingerprint, patch, choose_task(fingerprint, search, patch.network, log)),
        run=RunPlan(
            batch_size=batch_size,
            loss=choose_loss(fingerprint, log, fraction, lowres_helps=lowres is not None),
            augmentation=choose_augmentation(patch.size_vox, mirror_axes, log),
            training=log.settings(TRAINING),
        ),
        inference=InferencePlan(
            step_fraction=inference.step_fraction,
            gaussian_sigma_fraction=inference.gaussian_sigma_fraction,
            mirror_axes=mirror_axes,
            median_shape_vox=search.median_shape_vox,
            smallest_object_mm=round(inference.smallest_object * log.facts.small_thing_mm, 4),
        ),
    )
    return Planned(configuration, search, lowres)


def _search_of(
    grid: MedianGrid, inputs: PlanningInputs, log: DecisionLog, coarser: PatchSearch | None
) -> PatchSearch:
    """What to search a patch with: at the grid's spacing, or at that of a coarser search."""
    dims = 2 if log.facts.configuration == "2d" else 3
    memory_gib = choose_memory_gib(log, inputs.memory_factor)
    patch, network = log.settings(PATCH_SIZE), log.settings(NETWORK)
    search = PatchSearch(
        spacing_mm=grid.target_mm[-dims:],
        median_shape_vox=grid.median_vox[-dims:],
        median_voxels=float(np.prod(grid.median_vox)),
        class_count=log.facts.class_count,
        channels=log.facts.channel_count,
        outputs=inputs.fingerprint.labels.output_count,
        memory_gib=memory_gib,
        patch=patch,
        network=network,
        pooling=log.settings(POOLING),
        family=inputs.families(network.kind),
        bf16=inputs.machine.bf16,
        objects=expected_objects(inputs.fingerprint, grid),
    )
    if coarser is not None:
        search = replace(
            search,
            spacing_mm=coarser.spacing_mm,
            median_shape_vox=coarser.median_shape_vox,
            median_voxels=coarser.median_voxels,
        )
    log.conclude(TARGET_SPACING, search.spacing_mm)
    return search


def _model(fingerprint: Fingerprint, patch: FoundPatch, task: TaskPlan) -> ModelPlan:
    return ModelPlan(
        patch_size_vox=patch.size_vox,
        inputs=(ScanInput(channels=fingerprint.channel_names),),
        network=patch.network,
        task=task,
    )


def _lowres(
    search: PatchSearch, patch: FoundPatch, fraction: float, log: DecisionLog
) -> PatchSearch | None:
    settings = log.settings(LOWRES_SPACING, patch_fraction_of_median_image=fraction)
    coarser = find_lowres(search, patch.size_vox, settings)
    log.conclude(LOWRES_SPACING, None if coarser is None else coarser.spacing_mm)
    return coarser


def _conclude_network(log: DecisionLog, search: PatchSearch, patch: FoundPatch) -> None:
    levels = patch.network.levels
    log.conclude(
        PATCH_SIZE,
        patch.size_vox,
        median_shape_vox=search.median_shape_vox,
        memory_gib=search.memory_gib,
        estimated_elements=round(patch.elements),
        allowed_elements=round(search.reference_elements),
    )
    if not patch.shrunk:
        log.add_reason(PATCH_SIZE, "here the median scan fits as a whole")
    log.conclude(NETWORK, patch.network.kind, stages=len(levels))
    log.conclude_also("features", [level.features for level in levels], of=NETWORK)
    if isinstance(patch.network, BoxNetworkPlan):
        conclude_anchors(log, patch.network, search.objects.sizes_vox(search.spacing_mm))
    log.conclude(
        POOLING,
        [level.stride for level in levels],
        target_spacing_mm=search.spacing_mm,
        patch_size_vox=patch.size_vox,
    )
    log.conclude_also("kernel_sizes", [level.kernel_size for level in levels], of=POOLING)
