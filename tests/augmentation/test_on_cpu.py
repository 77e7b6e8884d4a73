"""The policy by batchgenerators and our own on the training device: one and the same in numbers."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.augmentation.on_cpu import CpuPolicy
from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import Batch, RawSample
from autoseg.planning.plan import AugmentationPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.sampling import PatchSampler
from autoseg.training.trainer import train_model
from autoseg.training.workers import augmented_sample
from tests.augmentation.test_policy import published
from tests.training.test_options import job_with
from tests.training.test_sampling import TRAINING
from tests.training.test_trainer import Recorder

PATCH = (12, 14, 10)
SAMPLES = 300


def case() -> StoredCase:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(40, 44, 42)), 1.5).astype(np.float32) * 5
    label = np.digitize(image, [-0.5, 0.5]).astype(np.uint8)
    voxels = {i: np.argwhere(label == i).astype(np.uint16) for i in (1, 2)}
    return StoredCase(label.shape, image[None], label, image < -1, voxels, None, label)


def statistics_of(batch: Batch) -> list[float]:
    image = batch.image[:, 0].numpy()
    roughness = np.abs(np.diff(image, axis=3)).mean()
    skew = ((image - image.mean()) ** 3).mean() / image.std() ** 3
    classes = [float((batch.label == value).float().mean()) for value in range(3)]
    outside = float((image == 0).mean())
    agreement = float(
        (batch.image[:, 1:].argmax(1) + 1 == batch.label)[batch.label > 0].mean(dtype=torch.float)
    )
    return [image.std(), np.percentile(image, 95), roughness, skew, *classes, outside, agreement]


@pytest.mark.parametrize("planar", [False, True])
def test_both_backends_make_batches_with_equal_statistics(planar: bool) -> None:
    plan = AugmentationPlan.model_validate(
        published(planar).model_dump()
        | {"mask_morphology_vox": {"probability": 0, "range": (1, 1)}}
        | {"mask_component_loss_probability": 0}
    )
    sampler = PatchSampler({"a": case()}, PATCH, SAMPLES, TRAINING, plan, 0, "training")
    shape = BatchShape(PATCH, (0,), planar, previous_classes=2)
    policy = CpuPolicy(plan, PATCH)
    cpu: list[RawSample] = [augmented_sample(sampler, policy, 0, i) for i in range(SAMPLES)]
    device = torch.device("cpu")
    ours = statistics_of(augment_batch(sampler.draw(0), shape, device))
    theirs = statistics_of(augment_batch(cpu, shape, device))
    np.testing.assert_allclose(theirs, ours, rtol=0.12, atol=0.03)


def test_processes_augment_the_same_however_many_they_are(tmp_path: Path) -> None:
    pytest.importorskip("batchgenerators")
    losses = []
    for threads in (1, 2):
        job = job_with(tmp_path / str(threads), 6, augment_on="workers")
        recorder = Recorder()
        train_model(replace(job, threads=threads), recorder, Event(), resume=False)
        losses.append(recorder.losses)
    assert losses[0] == losses[1]
