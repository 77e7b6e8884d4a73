from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset import LabelScheme
from autoseg.errors import AutosegError
from autoseg.fingerprint import (
    CaseStats,
    ClassStats,
    Fingerprint,
    IntensityStats,
    make_fingerprint,
)
from autoseg.layouts import open_dataset
from autoseg.machine import Machine
from autoseg.planning.memory import convolution_elements
from autoseg.planning.plan import Configuration, StagePlan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set

INTENSITY = IntensityStats(
    mean=1, std=1, min=0, max=9, percentile_00_5=0, median=1, percentile_99_5=8
)
CPU = Machine(gpu_name=None, gpu_memory_gb=0, cores=2, memory_gb=16, bf16=False)


def gpu(memory_gb: float) -> Machine:
    return Machine(gpu_name="any", gpu_memory_gb=memory_gb, cores=8, memory_gb=64, bf16=True)


def fingerprint_of(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    case_count: int = 50,
    channels: tuple[str, ...] = ("MRI",),
    crop: float = 1.0,
) -> Fingerprint:
    z, y, x = (max(1, int(n * crop)) for n in shape)
    case = CaseStats(
        case_id="a",
        shape_vox=shape,
        cropped_shape_vox=(z, y, x),
        spacing_mm=spacing_mm,
        axis_codes="SAR",
        class_voxels=(10, 1),
        intensity=None,
    )
    classes = ClassStats(
        name="organ",
        value=1,
        image_fraction=0.1,
        foreground_fraction=1,
        case_fraction=1,
        components_per_case=1,
        component_volume_mm3_p05=1,
        component_volume_mm3_median=1,
        component_volume_mm3_p95=1,
    )
    return Fingerprint(
        channel_names=channels,
        labels=LabelScheme(values=(0, 1), names=("background", "organ")),
        cases=(case,) * case_count,
        foreground_intensity=(INTENSITY,) * len(channels),
        classes=(classes,),
    )


def configure(fingerprint: Fingerprint, rules: str, machine: Machine) -> Configuration:
    return make_plan(fingerprint, load_rule_set(rules), machine).configurations["3d_fullres"]


def test_the_memory_estimate_is_the_published_one() -> None:
    strides = [(1, 1, 1), *[(2, 2, 2)] * 5]
    stages = [
        StagePlan(
            features=min(320, 32 * 2**i),
            kernel_size=(3, 3, 3),
            stride=stride,
            blocks=2,
            decoder_blocks=2 if i < 5 else 0,
        )
        for i, stride in enumerate(strides)
    ]
    assert convolution_elements(stages, (128, 128, 128), 3) == 452_796_416


def test_hippocampus_gets_the_plan_that_nnunet_makes(hippocampus: Path) -> None:
    fingerprint = make_fingerprint(open_dataset(hippocampus), workers=1)
    plan = configure(fingerprint, "nnunet", gpu(8))
    assert plan.patch_size_vox == (40, 56, 40)
    assert plan.median_shape_vox == (36, 50, 35)
    assert [s.features for s in plan.network.stages] == [32, 64, 128, 256]
    assert plan.network.patch_divisor == (8, 8, 8)
    assert [n.kind for n in plan.normalization] == ["zscore"]
    assert not plan.loss.batch_dice


def test_thick_slices_come_first_and_stay_thick() -> None:
    plan = configure(fingerprint_of((256, 256, 20), (0.8, 0.8, 5)), "nnunet", gpu(8))
    assert plan.axis_order == (2, 0, 1)
    assert plan.target_spacing_mm == (5, 0.8, 0.8)
    assert plan.network.stages[0].kernel_size == (1, 3, 3)


def test_a_coarse_axis_takes_its_tenth_percentile() -> None:
    thin = fingerprint_of((24, 256, 256), (4, 1, 1), case_count=10)
    thick = fingerprint_of((24, 256, 256), (8, 1, 1), case_count=30)
    both = thin.model_copy(update={"cases": thin.cases + thick.cases})
    assert configure(both, "nnunet", gpu(8)).target_spacing_mm == (4, 1, 1)


def test_large_scans_sum_dice_over_the_batch() -> None:
    plan = configure(fingerprint_of((400, 512, 512), (1, 0.8, 0.8)), "nnunet", gpu(8))
    assert plan.loss.batch_dice
    assert plan.batch_size == 2


def test_ct_and_cropped_scans_are_normalised_accordingly() -> None:
    plan = configure(
        fingerprint_of((60, 60, 60), (1, 1, 1), channels=("CT", "PET"), crop=0.7), "nnunet", gpu(8)
    )
    assert [(n.kind, n.masked) for n in plan.normalization] == [("ct", False), ("zscore", True)]


def test_without_a_gpu_the_plan_is_small_and_says_so() -> None:
    fingerprint = fingerprint_of((400, 512, 512), (1, 0.8, 0.8))
    plan = make_plan(fingerprint, load_rule_set("cpu"), CPU)
    configuration = plan.configurations["3d_fullres"]
    assert configuration.network.stages[0].features == 16
    assert np.prod(configuration.patch_size_vox) < 400_000
    reasons = {d.name: d.because for d in plan.decisions}
    assert "no NVIDIA GPU" in reasons["machine"]
    assert "on a CPU" in reasons["network"]


def test_every_choice_has_a_decision() -> None:
    plan = make_plan(fingerprint_of((60, 60, 60), (1, 1, 1)), load_rule_set("default"), gpu(24))
    names = {decision.name for decision in plan.decisions}
    assert names >= {
        "target_spacing_mm", "patch_size_vox", "pooling", "kernel_sizes", "features",
        "batch_size", "normalization", "loss", "augmentation", "training", "machine",
    }  # fmt: skip
    by_name = {decision.name: decision for decision in plan.decisions}
    configuration = plan.configurations["3d_fullres"]
    assert by_name["patch_size_vox"].value == configuration.patch_size_vox
    assert by_name["batch_size"].value == configuration.batch_size
    assert by_name["memory_gb"].value == pytest.approx(24 * 0.9)


def test_tiny_scans_are_refused() -> None:
    with pytest.raises(AutosegError, match="too few for a U-Net"):
        configure(fingerprint_of((5, 6, 7), (1, 1, 1)), "nnunet", gpu(8))


shapes = st.tuples(*[st.integers(16, 600)] * 3)
spacings = st.tuples(*[st.floats(0.3, 6)] * 3)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, spacing_mm=spacings, memory_gb=st.floats(4, 80), cases=st.integers(1, 1000))
def test_any_plan_is_valid_and_fits(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    memory_gb: float,
    cases: int,
) -> None:
    fingerprint = fingerprint_of(shape, spacing_mm, cases)
    plan = configure(fingerprint, "default", gpu(memory_gb))
    for patch, divisor in zip(plan.patch_size_vox, plan.network.patch_divisor, strict=True):
        assert patch % divisor == 0
    assert plan.batch_size >= 2
    elements = convolution_elements(plan.network.stages, plan.patch_size_vox, 2)
    allowed = 560e6 * memory_gb * 0.9 / 8
    assert elements / 2 * plan.batch_size <= 1.25 * allowed
    assert plan == configure(fingerprint, "default", gpu(memory_gb))
