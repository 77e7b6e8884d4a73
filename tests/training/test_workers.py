"""Processes make the very samples that the training device would, whatever is asked of them."""

import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import RawSample
from autoseg.errors import AutosegError
from autoseg.geometry import Box, Placement, Shape3
from autoseg.planning.run_plan import AugmentationPlan, RandomRange
from autoseg.preprocessing.prepared_case import PreparedCase
from autoseg.preprocessing.store import StoredCase, open_case, with_map, write_case, write_mask
from autoseg.training.sampling import PatchSampler
from autoseg.training.trainer import train_model
from autoseg.training.workers import make_batches, step_maker
from tests.augmentation.test_policy import published
from tests.training.blobs import Recorder, training_with
from tests.training.test_sampling import TRAINING

SHAPE: Shape3 = (30, 34, 32)
STEPS = 6
CPU = torch.device("cpu")
EAGER = {
    "rotation_degrees": RandomRange(probability=0.5, range=(-30, 30)),
    "elastic_vox": RandomRange(probability=0.4, range=(1, 3)),
    "gamma": RandomRange(probability=0.6, range=(0.7, 1.5)),
    "contrast": RandomRange(probability=0.6, range=(0.75, 1.25)),
    "mask_morphology_vox": RandomRange(probability=0.5, range=(1, 3)),
    "mask_component_loss_probability": 0.5,
    "mask_component_loss_fraction": 0.1,
}


def write(folder: Path, seed: int, cascaded: bool) -> StoredCase:
    """A case on disk with voxels outside, and the mask of a previous stage."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 1, 1, 1)).astype(np.float32)
    label = np.digitize(image[0], [0, 0.2]).astype(np.uint8)
    placement = Placement(
        source_shape_vox=SHAPE,
        flipped_axes=(),
        axis_order=(0, 1, 2),
        crop=Box(start=(0, 0, 0), stop=SHAPE),
        resampled_shape_vox=SHAPE,
        source_spacing_mm=(1, 1, 1),
        target_spacing_mm=(1, 1, 1),
    )
    voxels = {value: np.argwhere(label == value).astype(np.uint16) for value in (1, 2)}
    prepared = PreparedCase(image, label, image[1] < -0.3, voxels, voxels[1], placement)
    path, mask_path = folder / f"{seed}.prepared", folder / f"{seed}.mask"
    write_case(path, prepared, (), spatial_dims=3)
    if not cascaded:
        return open_case(path)
    write_mask(mask_path, label, placement, (), spatial_dims=3)
    return with_map(open_case(path), "stage_mask", mask_path)


def sampler_in(folder: Path, patch: Shape3, cascaded: bool = False, **more: object) -> PatchSampler:
    cases = {f"case_{seed}": write(folder, seed, cascaded) for seed in range(3)}
    values = published(patch[0] == 1).model_dump() | EAGER | more
    plan = AugmentationPlan.model_validate(values)
    return PatchSampler(cases, patch, 3, TRAINING, plan, 0, "training")


def begin(sampler: PatchSampler, processes: int = 1) -> Generator[list[RawSample], None, None]:
    return make_batches(sampler, range(3), itertools.count(), processes)


def assert_same(made: list[RawSample], sampler: PatchSampler, step: int, cascaded: bool) -> None:
    """That they become the batch that the device makes of the sampler's own samples."""
    assert sampler.augmentation is not None
    shape = BatchShape(sampler.patch_size_vox, (1,), sampler.augmentation.planar)
    found = augment_batch(made, shape, CPU)
    expected = augment_batch(sampler.draw(step), shape, CPU)
    assert torch.equal(found.image, expected.image)
    assert torch.equal(found.label, expected.label)
    assert found.maps.keys() == expected.maps.keys() == ({"stage_mask"} if cascaded else set())
    for kind, values in expected.maps.items():
        assert torch.equal(found.maps[kind], values)
    assert found.case_ids == expected.case_ids


@pytest.mark.parametrize("cascaded", [False, True])
@pytest.mark.parametrize("patch", [(14, 16, 12), (1, 18, 20), (3, 18, 20)])
def test_finished_samples_equal_the_devices_to_the_bit(
    tmp_path: Path, patch: Shape3, cascaded: bool
) -> None:
    sampler = sampler_in(tmp_path, patch, cascaded)
    maker = pickle.loads(pickle.dumps(step_maker(sampler)))
    warped = 0
    for step in range(STEPS):
        chosen = sampler.choose(step)
        warped += sum(patch.augmentation.displacement_vox is not None for patch in chosen)
        assert_same(maker.make(chosen), sampler, step, cascaded)
    assert warped > 0


def test_only_what_the_drawn_parameters_need_is_read(tmp_path: Path) -> None:
    sampler = sampler_in(tmp_path, (14, 16, 12), elastic_vox={"probability": 0, "range": (0, 0)})
    for chosen in itertools.chain.from_iterable(sampler.choose(step) for step in range(20)):
        ratio = np.prod(chosen.box.shape) / np.prod(sampler.patch_size_vox)
        assert ratio < 12
        if chosen.augmentation.matrix is None:
            assert chosen.box.shape == sampler.patch_size_vox


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_processes_make_the_samples_in_order_however_many_they_are(
    tmp_path: Path, processes: int
) -> None:
    sampler = sampler_in(tmp_path, (14, 16, 12), cascaded=True)
    batches = begin(sampler, processes)
    for step in range(STEPS):
        assert_same(next(batches), sampler, step, cascaded=True)
    batches.close()
    assert multiprocessing.active_children() == []


def test_trainings_have_equal_weights_wherever_they_augment(tmp_path: Path) -> None:
    networks = []
    for place, threads in (("device", 2), ("workers", 2)):
        training = training_with(tmp_path / f"{place}_{threads}", 4, augment_on=place)
        training = replace(training, threads=threads)
        networks.append(train_model(training, Recorder(), Event(), resume=False)[0].state_dict())
    for name, weight in networks[0].items():
        assert torch.equal(weight, networks[1][name]), name


def test_neither_voxels_nor_locations_travel(tmp_path: Path) -> None:
    sampler = sampler_in(tmp_path, (14, 16, 12), cascaded=True)
    loaded = {name: case.loaded() for name, case in sampler.cases.items()}
    message = pickle.dumps(step_maker(replace(sampler, cases=loaded)))
    assert len(message) < 3000
    for chosen in sampler.choose(0):
        assert len(pickle.dumps(chosen)) < 5000


def sampler_without(folder: Path, located: bool) -> tuple[PatchSampler, str, int]:
    """A sampler whose third step reads a case that is gone, the case, and a step that does not.

    Where its classes lie is known, or is to be read as well.
    """
    sampler = sampler_in(folder, (14, 16, 12))
    if located:
        cases = {
            name: replace(
                case,
                class_locations={1: np.array([[15, 17, 16]], np.uint16)},
                annotated_locations=None,
            )
            for name, case in sampler.cases.items()
        }
        sampler = replace(sampler, cases=cases)
    lost = sampler.choose(3)[1].case_id
    good = next(step for step in range(9) if all(p.case_id != lost for p in sampler.choose(step)))
    path = sampler.cases[lost].path
    assert path is not None
    path.unlink()
    return sampler, lost, good


def test_an_error_in_a_process_comes_at_its_step_with_the_cases_name(tmp_path: Path) -> None:
    sampler, lost, good = sampler_without(tmp_path, located=True)
    batches = make_batches(sampler, range(3), iter([good, good, 3, good]), 1)
    assert len(next(batches)) == len(next(batches)) == 3
    with pytest.raises(AutosegError, match=f"{lost}.*No such file"):
        next(batches)
    assert multiprocessing.active_children() == []


def test_an_error_while_choosing_comes_at_its_step_with_the_cases_file(tmp_path: Path) -> None:
    sampler, lost, good = sampler_without(tmp_path, located=False)
    batches = make_batches(sampler, range(3), iter([good, good, 3, good]), 1)
    assert len(next(batches)) == len(next(batches)) == 3
    expected = rf"{lost.removeprefix('case_')}\.prepared: .*No such file"
    with pytest.raises(AutosegError, match=expected):
        next(batches)
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    batches = begin(sampler_in(tmp_path, (14, 16, 12)), 2)
    next(batches)
    victim = multiprocessing.active_children()[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(AutosegError, match=r"process that augments .* died"):
        for _ in range(10**4):
            next(batches)
    assert multiprocessing.active_children() == []


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from tests.training.test_workers import begin, sampler_in

if __name__ == "__main__":
    batches = begin(sampler_in(Path(sys.argv[1]), (14, 16, 12)))
    next(batches)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_training_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path)]
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=dict(os.environ) | paths, check=False
    )
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 1
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that nobody buried does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
