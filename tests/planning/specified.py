"""Plans of datasets that are given by numbers alone, for comparing with nnU-Net v2's."""

from typing import Any

import numpy as np

from autoseg.dataset import LabelScheme
from autoseg.fingerprint import CaseStats, ClassStats, Fingerprint, IntensityStats
from autoseg.machine import Machine
from autoseg.planning.plan import Configuration
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set

INTENSITY = IntensityStats(
    mean=1, std=1, min=1, max=1, percentile_00_5=1, median=1, percentile_99_5=1
)


def autoseg_plan(spec: dict[str, Any]) -> dict[str, Configuration]:
    classes = spec["classes"]
    cases = tuple(
        CaseStats(
            case_id=str(index),
            shape_vox=(shape[0], shape[1], shape[2]),
            cropped_shape_vox=(shape[0], shape[1], shape[2]),
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            axis_codes="SAR",
            class_voxels=(1,) * classes,
            intensity=None,
            # Not a whole number of voxels, so that every case has the very same crop fraction.
        ).model_copy(update={"shape_vox": (shape[0] / spec["crop"], shape[1], shape[2])})
        for index, (spacing, shape) in enumerate(zip(spec["spacings"], spec["shapes"], strict=True))
    )
    stats = ClassStats(
        name="a",
        value=1,
        image_fraction=0.1,
        foreground_fraction=1,
        case_fraction=1,
        components_per_case=1,
        component_volume_mm3_p05=1,
        component_volume_mm3_median=1,
        component_volume_mm3_p95=1,
    )
    fingerprint = Fingerprint(
        channel_names=tuple(spec["channels"]),
        labels=LabelScheme(
            values=tuple(range(classes)), names=tuple(str(i) for i in range(classes))
        ),
        cases=cases,
        foreground_intensity=(INTENSITY,) * len(spec["channels"]),
        classes=(stats,),
    )
    machine = Machine(gpu_name="any", gpu_memory_gb=8, cores=8, memory_gb=64, bf16=True)
    plan = make_plan(fingerprint, load_rule_set("nnunet"), machine)
    return {str(name): configuration for name, configuration in plan.configurations.items()}


def fields_of_ours(plan: Configuration) -> dict[str, Any]:
    stages = plan.network.stages
    return {
        "transpose": list(plan.axis_order),
        "spacing": np.round(plan.target_spacing_mm, 9).tolist(),
        "median_shape": list(plan.median_shape_vox),
        "patch_size": list(plan.patch_size_vox),
        "batch_size": plan.batch_size,
        "features": [s.features for s in stages],
        "strides": [list(s.stride) for s in stages],
        "kernel_sizes": [list(s.kernel_size) for s in stages],
        "blocks": [s.blocks for s in stages],
        "decoder_blocks": [s.decoder_blocks for s in stages[:-1]],
        "batch_dice": plan.loss.batch_dice,
        "normalization": [n.kind for n in plan.normalization],
        "mask": [n.masked for n in plan.normalization],
    }
