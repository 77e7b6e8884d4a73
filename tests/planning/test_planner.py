"""Covers: choices, configuration_planner, decision_log, facts, grid_plan, model_plan, run_plan,
search."""

from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.labels import INSTANCE_SCHEME
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.errors import AutosegError
from autoseg.geometry import Shape3, Spacing3
from autoseg.inspection.fingerprint import ObjectStats, make_fingerprint
from autoseg.machine import Machine
from autoseg.networks import family_of
from autoseg.planning.choices import class_weights
from autoseg.planning.cost import convolution_elements
from autoseg.planning.model_plan import DistancePlan, FlowPlan, StageMaskInput
from autoseg.planning.network_plan import StagePlan, UNetPlan
from tests.planning.specified import (
    CPU,
    Scans,
    configure,
    gpu,
    made_up_fingerprint,
    plan_of,
    with_things,
)

RARE = ((0.1, 1.0), (0.02, 0.5), (0.0, 0.0))  # image and case fraction of three classes


def here(memory_gib: float) -> Machine:
    return gpu(memory_gib, name="one that is here")


def test_the_memory_estimate_is_the_published_one() -> None:
    stages = tuple(
        StagePlan(
            features=min(320, 32 * 2**i),
            kernel_size=(3, 3, 3),
            stride=(2, 2, 2) if i else (1, 1, 1),
            blocks=2,
            decoder_blocks=2 if i < 5 else 0,
        )
        for i in range(6)
    )
    network = UNetPlan(
        kind="plain_unet",
        stages=stages,
        norm="instance",
        activation="leaky_relu",
        bias=True,
        upsampling="transposed",
        deep_supervision=True,
    )
    assert convolution_elements(network, (128, 128, 128), 3) == 452_796_416


def test_hippocampus_gets_the_plan_that_nnunet_makes(hippocampus: Path) -> None:
    fingerprint = make_fingerprint(open_dataset(hippocampus), workers=1)
    plan = configure(fingerprint, "nnunet", gpu(8))
    assert plan.model.patch_size_vox == (40, 56, 40)
    assert plan.inference.median_shape_vox == (36, 50, 35)
    assert [s.features for s in plan.model.network.stages] == [32, 64, 128, 256]
    assert family_of("plain_unet").patch_divisor(plan.model.network) == (8, 8, 8)
    assert [n.kind for n in plan.grid.normalization] == ["zscore"]
    assert not plan.run.loss.batch_dice


def test_thick_slices_come_first_and_stay_thick() -> None:
    scans = Scans((256, 256, 20), (0.8, 0.8, 5))
    plan = configure(made_up_fingerprint(scans), "nnunet", gpu(8))
    assert plan.grid.axis_order == (2, 0, 1)
    assert plan.grid.target_spacing_mm == (5, 0.8, 0.8)
    assert plan.model.network.stages[0].kernel_size == (1, 3, 3)


def test_a_coarse_axis_takes_its_tenth_percentile() -> None:
    both = made_up_fingerprint(
        Scans((24, 256, 256), (4, 1, 1), count=10), Scans((24, 256, 256), (8, 1, 1), count=30)
    )
    assert configure(both, "nnunet", gpu(8)).grid.target_spacing_mm == (4, 1, 1)


def test_large_scans_sum_dice_over_the_batch() -> None:
    scans = Scans((400, 512, 512), (1, 0.8, 0.8))
    plan = configure(made_up_fingerprint(scans), "nnunet", gpu(8))
    assert plan.run.loss.batch_dice
    assert plan.run.batch_size == 2


def test_a_cascade_is_full_resolution_after_low_resolution() -> None:
    scans = Scans((400, 512, 512), (1, 0.8, 0.8))
    configurations = plan_of(made_up_fingerprint(scans), "nnunet", gpu(8)).configurations
    full, cascade = configurations["3d_fullres"], configurations["3d_cascade_fullres"]
    mask = StageMaskInput(stage="3d_lowres", classes=("organ",))
    model = full.model.model_copy(update={"inputs": (*full.model.inputs, mask)})
    assert cascade == full.model_copy(update={"name": "3d_cascade_fullres", "model": model})
    assert (full.previous_stage, cascade.previous_stage) == (None, "3d_lowres")
    assert not configurations["3d_lowres"].run.loss.batch_dice


def test_single_slices_are_planned_in_two_dimensions_only() -> None:
    scans = Scans((1, 400, 300), (999, 1, 1), count=30)
    plan = plan_of(made_up_fingerprint(scans), "nnunet", gpu(8))
    assert list(plan.configurations) == ["2d"]
    assert plan.recommended == "2d"


def test_a_slice_thinner_than_half_the_target_counts_nothing_in_the_median() -> None:
    """As nnU-Net plans these two, although both are resampled to a single slice at least."""
    thin, thick = Scans((1, 200, 200), (0.3, 1, 1)), Scans((1, 200, 200), (1, 1, 1))
    plan = configure(made_up_fingerprint(thin, thick), "nnunet", gpu(8))
    assert plan.inference.median_shape_vox == (200, 1, 200)
    assert plan.model.patch_size_vox == (224, 1, 224)


def test_a_spacing_on_the_way_to_low_resolution_may_have_no_network() -> None:
    """Coarser on its long axis only, the patch cannot be pooled; a few steps on it can again."""
    scans = Scans((562, 62, 366), (4.9429, 0.1, 1.6), count=100)
    plans = plan_of(made_up_fingerprint(scans), "nnunet", gpu(6))
    assert plans.configurations["3d_lowres"].inference.median_shape_vox[1] < 8


@pytest.mark.parametrize(
    ("shape_vox", "spacing_mm"),
    [((288, 66, 433), (3.0, 0.22, 3.0)), ((2000, 2500, 1), (1, 1, 1))],
    ids=["a network of one stage", "an axis without voxels"],
)
def test_low_resolution_is_left_out_where_it_has_no_network(
    shape_vox: Shape3, spacing_mm: Spacing3
) -> None:
    fingerprint = made_up_fingerprint(Scans(shape_vox, spacing_mm))
    plan = plan_of(fingerprint, "cpu", CPU)
    assert list(plan.configurations) == ["2d", "3d_fullres"]


def test_where_the_axis_to_shrink_is_a_single_voxel_the_next_one_is_shrunk() -> None:
    scans = made_up_fingerprint(Scans((2000, 2500, 1), (1, 1, 1)))
    (organ,) = scans.classes
    small = organ.model_copy(update={"component_volume_mm3_p95": 1000.0})
    plan = configure(scans.model_copy(update={"classes": (small,)}), "cpu", CPU)
    assert plan.model.patch_size_vox == (192, 256, 1)


def test_ct_and_cropped_scans_are_normalised_accordingly() -> None:
    scans = Scans((60, 60, 60), (1, 1, 1), cropped_vox=(42, 60, 60))
    plan = configure(made_up_fingerprint(scans, channels=("CT", "PET")), "nnunet", gpu(8))
    assert [(n.kind, n.masked) for n in plan.grid.normalization] == [
        ("ct", False),
        ("zscore", True),
    ]


@pytest.mark.parametrize(("rules", "memory_gib"), [("nnunet", 8), ("residual_l", 24)])
def test_presets_ignore_the_gpu_that_is_here_but_not_memory_that_is_given(
    rules: str, memory_gib: float
) -> None:
    fingerprint = made_up_fingerprint(Scans((400, 512, 512), (1, 0.8, 0.8)))
    preset = configure(fingerprint, rules, here(80))
    assert preset == configure(fingerprint, rules, gpu(memory_gib))
    given = configure(fingerprint, rules, gpu(80))
    assert np.prod(given.model.patch_size_vox) > np.prod(preset.model.patch_size_vox)


def test_without_a_gpu_the_plan_is_small_and_says_so() -> None:
    fingerprint = made_up_fingerprint(Scans((400, 512, 512), (1, 0.8, 0.8)))
    plan = plan_of(fingerprint, "cpu", CPU)
    configuration = plan.configurations["3d_fullres"]
    assert configuration.model.network.stages[0].features == 8
    assert np.prod(configuration.model.patch_size_vox) < 600_000
    reasons = {d.name: d.because for d in plan.decisions}
    assert "no NVIDIA GPU" in reasons["machine"]
    assert "on a CPU" in reasons["network"]


def test_every_choice_has_a_decision() -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)))
    plan = plan_of(fingerprint, "default", here(24))
    for name in ("2d", "3d_fullres"):
        by_name = {d.name: d for d in plan.decisions if d.configuration in (None, name)}
        assert by_name.keys() >= {
            "orientation", "target_spacing_mm", "axis_order", "normalization", "resampling",
            "memory_gib", "patch_size_vox", "network", "features", "pooling", "kernel_sizes",
            "batch_size", "loss", "batch_dice", "mirror_axes", "augmentation", "training",
            "inference", "expectation", "machine", "recommended", "task",
        }  # fmt: skip
        configuration = plan.configuration(name)
        assert by_name["patch_size_vox"].value == configuration.model.patch_size_vox
        assert by_name["batch_size"].value == configuration.run.batch_size
        assert by_name["memory_gib"].value == pytest.approx(24 * 0.9)


def test_tiny_scans_are_refused() -> None:
    fingerprint = made_up_fingerprint(Scans((5, 6, 7), (1, 1, 1)))
    with pytest.raises(AutosegError, match="too few for a U-Net"):
        configure(fingerprint, "nnunet", gpu(8))


def test_a_rule_can_bound_the_voxels_of_a_patch(tmp_path: Path) -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)))
    (tmp_path / "ruleset.toml").write_text('title = "bounded"\nextends = "nnunet"\n')

    def patch_of(most_voxels: int) -> tuple[int, ...]:
        (tmp_path / "own.toml").write_text(
            '[[rule]]\nid = "patch_size.own"\ndecides = "patch_size_vox"\n'
            f"changes = {{ most_voxels = {most_voxels} }}\n"
            'because = "to be small"\nsource = "a test"\n'
        )
        return configure(fingerprint, str(tmp_path), gpu(8)).model.patch_size_vox

    assert patch_of(10**6) == (64, 64, 64)  # the whole scan, to whole strides
    assert 16_000 < np.prod(patch_of(32_768)) <= 32_768
    with pytest.raises(AutosegError, match=r"at most 10 voxels.*raise most_voxels in the rule"):
        patch_of(10)


def test_too_little_memory_is_not_blamed_on_the_scans() -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)))
    with pytest.raises(AutosegError, match=r"No patch fits into 0\.001 GiB"):
        configure(fingerprint, "nnunet", gpu(0.001))


def test_pictures_of_unlike_pixels_are_recommended_as_slices() -> None:
    fine = Scans((1, 200, 200), (99.9, 0.1, 0.1), count=30)
    coarse = Scans((1, 200, 200), (199.8, 0.2, 0.2), count=30)
    plan = plan_of(made_up_fingerprint(fine, coarse), "default", gpu(24))
    assert plan.recommended == "2d"


def test_classes_are_weighed_by_how_rare_they_are() -> None:
    fingerprint = made_up_fingerprint(Scans((40, 40, 40), (1, 1, 1), count=50))
    stats = fingerprint.classes[0]
    classes = [stats.model_copy(update={"image_fraction": f, "case_fraction": c}) for f, c in RARE]
    fingerprint = fingerprint.model_copy(update={"classes": tuple(classes)})
    assert class_weights(fingerprint, "none") is None
    expected = np.array([1 / 0.88, 1 / 0.1, 1 / 0.02, 0])
    expected /= expected[:3].mean()
    assert class_weights(fingerprint, "inverse_frequency") == pytest.approx(tuple(expected))
    # Frequencies in the scans that have the class: 0.88, 0.1 and 0.02 / 0.5; their median is 0.1.
    median = class_weights(fingerprint, "median_frequency")
    assert median == pytest.approx((0.1 / 0.88, 1, 0.1 / 0.04, 0))


@pytest.mark.parametrize("channel", ["CT ", "ct scan", "Computed tomography", "CTA"])
def test_ct_by_another_name_is_ct_by_default_and_to_nnunet_it_is_not(channel: str) -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)), channels=(channel,))
    kinds = {
        rules: [n.kind for n in configure(fingerprint, rules, gpu(8)).grid.normalization]
        for rules in ("default", "nnunet")
    }
    assert kinds == {"default": ["ct"], "nnunet": ["zscore"]}


@pytest.mark.parametrize(
    ("shares", "kind"),
    [((1 / 120,) * 120, "ce_dice"), ((0.992, 0.008), "ce_tversky"), ((0.33, 0.669, 0.0001),
     "ce_tversky"), ((0.008, *(0.992 / 11,) * 11), "ce_dice")],
)  # fmt: skip
def test_a_class_is_tiny_beside_the_others_and_not_because_they_are_many(
    shares: tuple[float, ...], kind: str
) -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)))
    (organ,) = fingerprint.classes
    classes = [organ.model_copy(update={"foreground_fraction": share}) for share in shares]
    fingerprint = fingerprint.model_copy(update={"classes": tuple(classes)})
    assert configure(fingerprint, "default", gpu(8)).run.loss.kind == kind


@pytest.mark.parametrize(("touching", "kind"), [(0.3, "distance"), (0.01, "semantic")])
def test_objects_that_touch_are_told_apart_by_their_depth(touching: float, kind: str) -> None:
    objects = ObjectStats(
        per_scan_median=20,
        per_scan_p99_5=50,
        per_scan_max=60,
        in_patch_max=30,
        diameter_mm_p05=6,
        diameter_mm_median=9,
        diameter_mm_p95=12,
        diameter_mm_p99_5=15,
        touching_fraction=touching,
        solidity=0.9,
    )
    fingerprint = made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50))
    (organ,) = fingerprint.classes
    labels = fingerprint.labels.model_copy(update={"things": ("organ",)})
    classes = (organ.model_copy(update={"objects": objects}),)
    things = fingerprint.model_copy(update={"labels": labels, "classes": classes})
    task = configure(things, "default", CPU).model.task
    assert task.kind == kind
    assert configure(things, "nnunet", CPU).model.task.kind == "semantic"
    ways = configure(things, "flow", CPU).model.task
    assert isinstance(ways, FlowPlan) and (ways.steps, ways.outputs) == (45, 5)  # of 15 voxels
    if isinstance(task, DistancePlan):
        assert (task.reach_mm, task.outputs) == (6, 3)
    smallest_mm = [
        configure(things, r, CPU).inference.smallest_object_mm for r in ("cpu", "nnunet")
    ]
    assert smallest_mm == [3, 0]


def test_numbered_objects_keep_their_border_and_the_reason_has_their_facts() -> None:
    things = with_things(made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50)))
    (organ,) = things.classes
    border = organ.model_copy(update={"name": "border", "objects": None})
    numbered = things.model_copy(update={"labels": INSTANCE_SCHEME, "classes": (organ, border)})
    plan = plan_of(numbered, "default", CPU)
    (task,) = (d for d in plan.decisions if (d.name, d.configuration) == ("task", "3d_fullres"))
    assert (task.value, task.rule_id) == ("semantic", "task.border")
    assert "20 in a median scan" in task.because
    assert "30% touch another" in task.because


@pytest.mark.parametrize("rules", ["flow", "solov2", "yolact"])
def test_what_tells_objects_apart_needs_things(rules: str) -> None:
    with pytest.raises(AutosegError, match="things"):
        configure(made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1))), rules, CPU)


def test_a_border_between_objects_is_no_class_that_is_easily_missed() -> None:
    fingerprint = made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1)))
    (organ,) = fingerprint.classes
    shares = {"object": 0.995, "border": 0.005}
    classes = tuple(
        organ.model_copy(update={"name": name, "foreground_fraction": share})
        for name, share in shares.items()
    )
    two_classes = INSTANCE_SCHEME.model_copy(update={"instances": False, "things": ()})
    for labels, kind in ((INSTANCE_SCHEME, "ce_dice"), (two_classes, "ce_tversky")):
        known = fingerprint.model_copy(update={"labels": labels, "classes": classes})
        assert configure(known, "default", gpu(8)).run.loss.kind == kind
