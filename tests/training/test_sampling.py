import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg.planning.rules import load_rule_set
from autoseg.planning.run_plan import TrainingPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.distributed import ProcessGroup
from autoseg.training.reading import closed_case
from autoseg.training.sampling import PatchSampler, choose_start

PATCH = (8, 10, 12)
TRAINING: TrainingPlan = load_rule_set("nnunet").default("training")


def case_of(shape: tuple[int, int, int], targets: dict[int, tuple[int, int, int]]) -> StoredCase:
    label = np.zeros(shape, np.uint8)
    for value, voxel in targets.items():
        label[voxel] = value
    locations = {value: np.array([voxel], np.uint16) for value, voxel in targets.items()}
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return StoredCase(shape, image, label, None, locations)


def sampler_of(case: StoredCase, batch_size: int = 3, **changes: Any) -> PatchSampler:
    plan = TRAINING.model_copy(update=changes)
    return PatchSampler({"a": case, "b": case}, PATCH, batch_size, plan, None, 0, "training")


def test_the_last_third_of_a_batch_holds_foreground() -> None:
    case = case_of((60, 60, 60), {1: (30, 31, 32)})
    for step in range(50):
        samples = sampler_of(case).draw(step)
        assert samples[2].label.any()
        assert samples[2].label[4, 5, 6] == 1
    elsewhere = [sampler_of(case).draw(step)[0].label.any() for step in range(50)]
    assert np.mean(elsewhere) < 0.2


def test_a_batch_of_two_has_one_forced_sample() -> None:
    case = case_of((60, 60, 60), {1: (30, 31, 32)})
    drawn = [sampler_of(case, batch_size=2).draw(step) for step in range(30)]
    assert all(samples[1].label.any() for samples in drawn)
    assert not all(samples[0].label.any() for samples in drawn)


@pytest.mark.parametrize(("batches", "forced"), [(2, {1}), (3, {2}), (6, {4, 5})])
def test_foreground_is_counted_over_all_batches_of_a_step(batches: int, forced: set[int]) -> None:
    case = case_of((60, 60, 60), {1: (30, 31, 32)})
    sampler = sampler_of(case, batch_size=1, accumulated_batches=batches, foreground_fraction=0.33)
    centred = [sampler.draw(step)[0].label[4, 5, 6] == 1 for step in range(10 * batches)]
    for place in range(batches):
        share = np.mean(centred[place::batches])
        assert share == 1 if place in forced else share < 0.5


def test_batches_of_a_step_hold_as_much_foreground_as_one_large_batch() -> None:
    case = case_of((60, 60, 60), {1: (30, 31, 32)})
    whole = sampler_of(case, batch_size=4)
    parts = sampler_of(case, batch_size=2, accumulated_batches=2)
    held_out = replace(parts, purpose="validation")

    def forced(sampler: PatchSampler, step: int, size: int) -> list[bool]:
        rng = np.random.default_rng(0)
        return [sampler._is_forced(step, index, rng) for index in range(size)]

    assert forced(whole, 0, 4) == [False, False, False, True]
    assert [*forced(parts, 6, 2), *forced(parts, 7, 2)] == [False, False, False, True]
    assert forced(held_out, 0, 2) == forced(held_out, 1, 2) == [False, True]


def test_rare_classes_are_chosen_as_often_as_common_ones() -> None:
    case = case_of((60, 60, 60), {1: (5, 5, 6), 2: (50, 50, 50)})
    common = np.tile([[5, 5, 6]], (1000, 1)).astype(np.uint16)
    case = StoredCase(
        case.shape_vox, case.image, case.label, None, {1: common, 2: case.class_locations[2]}
    )
    rng = np.random.default_rng(0)
    starts = [choose_start(case, PATCH, True, rng) for _ in range(400)]
    assert np.mean([start[0] > 20 for start in starts]) == pytest.approx(0.5, abs=0.08)


def test_patches_stay_inside_and_reach_every_border() -> None:
    case = case_of((20, 20, 20), {})
    rng = np.random.default_rng(0)
    starts = np.array([choose_start(case, PATCH, False, rng) for _ in range(2000)])
    assert starts.min(0).tolist() == [0, 0, 0]
    assert starts.max(0).tolist() == [12, 10, 8]


def test_small_cases_lie_in_the_middle_of_the_patch() -> None:
    case = case_of((5, 10, 9), {1: (0, 0, 0)})
    rng = np.random.default_rng(0)
    for forced in (False, True):
        start = choose_start(case, PATCH, forced, rng)
        assert start[0] in (-2, -1)
        assert start[1] == 0
        assert start[2] in (-2, -1)


def test_by_chance_any_sample_may_hold_foreground() -> None:
    case = case_of((60, 60, 60), {1: (30, 31, 32)})
    sampler = sampler_of(case, 2, oversampling="probabilistic", foreground_fraction=0.5)
    drawn = [sampler.draw(step) for step in range(150)]
    for index in (0, 1):
        assert np.mean([s[index].label.any() for s in drawn]) == pytest.approx(0.53, abs=0.13)


def test_patches_are_drawn_around_what_is_annotated() -> None:
    case = replace(
        case_of((60, 60, 60), {1: (30, 31, 32)}),
        annotated_locations=np.array([[30, 31, 32], [10, 11, 12]], np.uint16),
    )
    rng = np.random.default_rng(0)
    starts = {tuple(choose_start(case, PATCH, False, rng)) for _ in range(50)}
    assert starts == {(26, 26, 26), (6, 6, 6)}
    assert {tuple(choose_start(case, PATCH, True, rng)) for _ in range(50)} == {(26, 26, 26)}


def test_processes_share_a_batch_sample_by_sample() -> None:
    sampler = sampler_of(case_of((60, 60, 60), {1: (30, 31, 32)}), batch_size=5)
    whole = sampler.draw(7)
    shared = [s for rank in range(2) for s in sampler.draw(7, ProcessGroup(rank, 2).share(5))]
    for found, expected in zip(shared, whole, strict=True):
        np.testing.assert_array_equal(found.image, expected.image)


def test_a_case_travels_to_another_process_without_its_voxels(tmp_path: Path) -> None:
    case = case_of((20, 20, 20), {1: (3, 4, 5)})
    many = np.ones((10_000, 3), np.uint8)
    case = replace(
        case, class_locations={1: many}, annotated_locations=many, path=tmp_path / "a.prepared"
    )
    assert len(pickle.dumps(closed_case(case))) < 1000
