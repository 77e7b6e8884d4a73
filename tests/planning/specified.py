"""Datasets given by numbers alone, and their plans: for tests, and to compare with nnU-Net v2's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import declared_channels, declared_labels
from autoseg.geometry import Box, Shape3, Spacing3
from autoseg.inspection.fingerprint import ClassStats, Fingerprint, ObjectStats
from autoseg.inspection.statistics import CaseStats, IntensityStats
from autoseg.machine import ANY_GPU, Machine
from autoseg.networks import family_of
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.network_plan import unet_plan
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import RuleSet, load_rule_set
from autoseg.planning.search import Families, NetworkFamily

RULE_SETS = {
    "ExperimentPlanner": "nnunet",
    "nnUNetPlannerResEncM": "residual_m",
    "nnUNetPlannerResEncL": "residual_l",
    "nnUNetPlannerResEncXL": "residual_xl",
}
INTENSITY = IntensityStats(
    mean=1, std=1, min=0, max=9, percentile_00_5=0, median=1, percentile_99_5=8
)
TWO_CLASSES = LabelScheme(values=(0, 1), names=("background", "organ"))
CPU = Machine(gpu_name=None, gpu_memory_gib=0, cores=2, memory_gib=16, bf16=False)


@dataclass(frozen=True, slots=True)
class Scans:
    """A number of scans that are alike; without `cropped_vox` nothing is cropped."""

    shape_vox: Shape3
    spacing_mm: Spacing3
    count: int = 1
    cropped_vox: Shape3 | None = None

    def stats(self) -> tuple[CaseStats, ...]:
        case = CaseStats(
            case_id="a",
            patient_id="a",
            shape_vox=self.shape_vox,
            crop=Box(start=(0, 0, 0), stop=self.cropped_vox or self.shape_vox),
            spacing_mm=self.spacing_mm,
            axis_codes="SAR",
            label_voxels={0: 10, 1: 1},
            intensity=None,
            intensity_with_ignore=None,
            pixel_hash="",
        )
        return (case,) * self.count


def gpu(memory_gib: float, name: str = ANY_GPU) -> Machine:
    return Machine(gpu_name=name, gpu_memory_gib=memory_gib, cores=8, memory_gib=64, bf16=True)


def made_up_fingerprint(
    *scans: Scans,
    channels: tuple[str, ...] = ("MRI",),
    labels: LabelScheme = TWO_CLASSES,
    intensity: tuple[IntensityStats, ...] | None = None,
) -> Fingerprint:
    """A fingerprint of scans whose one foreground class is neither rare nor small."""
    organ = ClassStats(
        name="organ",
        value=1,
        image_fraction=0.1,
        foreground_fraction=1,
        case_fraction=1,
        components_per_case=1,
        component_volume_mm3_p05=1e6,
        component_volume_mm3_median=1e6,
        component_volume_mm3_p95=1e6,
    )
    return Fingerprint(
        channel_names=channels,
        labels=labels,
        cases=tuple(case for group in scans for case in group.stats()),
        foreground_intensity=intensity or (INTENSITY,) * len(channels),
        classes=(organ,),
    )


def with_things(fingerprint: Fingerprint) -> Fingerprint:
    """The same where the organ is of up to 50 objects a scan, 30 in a box of a patch's size."""
    objects = ObjectStats(
        per_scan_median=20, per_scan_p99_5=50, per_scan_max=60, in_patch_max=30,
        diameter_mm_p05=6, diameter_mm_median=9, diameter_mm_p95=12, diameter_mm_p99_5=15,
        touching_fraction=0.3, solidity=0.9,
    )  # fmt: skip
    (organ,) = fingerprint.classes
    sizes = {"object_sizes_vox": ((6, 6, 6), (9, 10, 9), (12, 12, 10))}
    return fingerprint.model_copy(
        update={
            "labels": fingerprint.labels.model_copy(update={"things": ("organ",)}),
            "classes": (organ.model_copy(update={"objects": objects}),),
            "cases": tuple(case.model_copy(update=sizes) for case in fingerprint.cases),
        }
    )


def untraced(kind: str) -> NetworkFamily:
    """A family whose networks are not traced, for tests of many plans: nobody asks what they
    take."""
    return replace(family_of(kind), cost=lambda model: NetworkCost(1, 1, 1, 1, 1))


def plan_of(
    fingerprint: Fingerprint,
    rules: RuleSet | str,
    machine: Machine,
    name: str | None = None,
    families: Families = untraced,
) -> Plan:
    """The plan by a rule set, or by the built-in one or folder of a name."""
    rule_set = load_rule_set(rules) if isinstance(rules, str) else rules
    return make_plan(PlanningInputs(fingerprint, rule_set, machine, families), name)


def configure(fingerprint: Fingerprint, rules: str, machine: Machine) -> Configuration:
    """The configuration at full resolution."""
    return plan_of(fingerprint, rules, machine).configurations["3d_fullres"]


def specified_plan(spec: dict[str, Any]) -> Plan:
    """Our plan of a specification, which names one of nnU-Net's planners.

    Memory that is given is that of a GPU known by nothing else; else a GPU is there, whose memory
    must not matter.
    """
    path, memory_gib = Path("dataset.json"), spec["memory_gib"]
    scans = [
        Scans(
            shape_vox=_three(scan["shape_vox"]),
            spacing_mm=_three(scan["spacing_mm"]),
            count=scan["count"],
            cropped_vox=_three(scan["cropped_vox"]),
        )
        for scan in spec["scans"]
    ]
    fingerprint = made_up_fingerprint(
        *scans,
        channels=declared_channels(spec["description"], path),
        labels=declared_labels(spec["description"], path),
        intensity=tuple(IntensityStats(**intensity) for intensity in spec["intensity"]),
    )
    machine = gpu(17, name="one that is here") if memory_gib is None else gpu(memory_gib)
    return plan_of(fingerprint, RULE_SETS[spec["planner"]], machine)


def _three(values: list[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def fields_of_ours(plan: Configuration) -> dict[str, Any]:
    """A configuration in words that nnU-Net's can be put into as well."""
    grid, model = plan.grid, plan.model
    network, normalization = unet_plan(model.network), grid.normalization
    return {
        "transpose": list(grid.axis_order),
        "spacing": list(grid.target_spacing_mm),
        "median_shape": list(plan.inference.median_shape_vox),
        "patch_size": list(model.patch_size_vox),
        "batch_size": plan.run.batch_size,
        "network": network.kind,
        "operators": [f"bias={network.bias}", network.norm, network.activation],
        "features": [stage.features for stage in network.stages],
        "strides": [list(stage.stride) for stage in network.stages],
        "kernel_sizes": [list(stage.kernel_size) for stage in network.stages],
        "blocks": [stage.blocks for stage in network.stages],
        "decoder_blocks": [stage.decoder_blocks for stage in network.stages[:-1]],
        "batch_dice": plan.run.loss.batch_dice,
        "normalization": [channel.kind for channel in normalization],
        "mask": [channel.masked for channel in normalization],
        "intensity": [channel.statistics.model_dump() for channel in normalization],
        "resampling": grid.resampling.model_dump(),
        "previous_stage": plan.previous_stage,
    }
