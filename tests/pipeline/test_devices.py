"""Which GPU is planned for, measured and trained on, and how much of it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.synthetic import make_scan, write_scan
from autoseg.device import Device, choose_device, machine_of
from autoseg.errors import AutosegError
from autoseg.machine import Machine
from autoseg.pipeline import executors, fitting, jobs, train
from autoseg.pipeline.executors import gpus_here, predict_on
from autoseg.pipeline.fitting import FoldRun
from autoseg.pipeline.jobs import Rank, TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.predict import PredictJob
from autoseg.planning.plan import Configuration, Plan
from autoseg.training.measure import Measurement
from tests.inference.model_files import small_configuration, write_model
from tests.made_up_gpus import MadeUpGpu, install

BUSY, LARGE = MadeUpGpu("NVIDIA RTX 4090", 24, others_gib=4), MadeUpGpu("NVIDIA H100", 80)


@pytest.fixture(autouse=True)
def no_setting_of_torch_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr("autoseg.training.measure.measured_rate", lambda device: 1e13)


def plan(dataset: Path, work: Path, target: str | None = None) -> Plan:
    return plan_dataset(PlanJob(dataset=dataset, work=work, target=target), workers=1).plan


def fitted(job: TrainJob, processes: int = 1) -> FoldRun:
    """What a job trains on its device, each of so many processes its share."""
    rank = job.rank.model_copy(update={"world_size": processes})
    job = job.model_copy(update={"rank": rank})
    return train._fitted(jobs.resolve_job(job), train._device(job))


def test_plans_are_made_for_what_is_free_on_the_gpu_that_torch_sees(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, BUSY, LARGE)
    made = plan(synthetic_dataset, tmp_path)
    assert (made.machine.gpu_name, made.machine.gpu_free_gib) == ("NVIDIA RTX 4090", 20)
    decided = [d.value for d in made.decisions if d.name == "memory_gib"]
    assert decided[0] == pytest.approx(0.9 * 20)
    given = plan(synthetic_dataset, tmp_path / "given", target="gpu:24")
    assert given.machine.gpu_planned_gib == 24


def test_devices_share_the_scans_and_say_together_what_was_done(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors", small_configuration())
    for name in "abc":
        scan = make_scan(ord(name), (24, 20, 8))
        write_scan(tmp_path / "in" / f"{name}.nii.gz", scan.image, scan)
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no scan")
    job = PredictJob(
        inputs=(tmp_path / "in",), output=tmp_path / "out", models=(model,), engine="torch"
    )
    told: list[tuple[int, int]] = []
    result = predict_on(["cpu", "cpu"], job, lambda done, total, what: told.append((done, total)))
    assert sorted(one.case_id for one in result.done) == ["a", "c"]
    assert len(result.problems) == 1 and "b.nii.gz" in result.problems[0]
    assert told[-1] == (3, 3)
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"a.nii.gz", "c.nii.gz"}


def test_a_limit_of_memory_is_for_all_devices_and_what_fails_in_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []

    @contextmanager
    def two_processes(parts: Sequence[PredictJob]) -> Iterator[list[Connection]]:
        given.extend(part.memory_gib for part in parts)
        (one, other), (quiet, _there) = Pipe(), Pipe()
        other.send(PermissionError(13, "Permission denied", "out"))
        yield [one, quiet]

    monkeypatch.setattr(executors, "_predicting", two_processes)
    job = PredictJob(inputs=(tmp_path,), output=tmp_path, models=(), memory_gib=8)
    with pytest.raises(PermissionError, match="out"):
        predict_on(["gpu:0", "gpu:1"], job)
    assert given == [4, 4]


@pytest.mark.slow
def test_what_a_process_cannot_use_is_told_as_if_it_were_here(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"no model")
    job = PredictJob(
        inputs=(tmp_path,), output=tmp_path / "out", models=(tmp_path / "m.safetensors",)
    )
    with pytest.raises(AutosegError, match=r"m\.safetensors"):
        predict_on(["cpu"], job)


def test_measuring_may_use_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, BUSY, LARGE)
    usable = [fitting.usable_memory_gib(machine_of(choose_device(f"gpu:{i}"))) for i in (0, 1)]
    assert usable == pytest.approx([0.95 * 20, 0.95 * 80])


def measured_on(monkeypatch: pytest.MonkeyPatch, usable_gib: float) -> list[Any]:
    """What is asked when a batch is fitted: of which GPU, and then batches on which device.

    A patch takes 0.01 GiB.
    """
    asked: list[Any] = []

    def usable_memory_gib(machine: Machine) -> float:
        asked.append(machine.gpu_name)
        return usable_gib

    def measure(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
        asked.append((configuration.run.batch_size, device.name))
        return Measurement(0.01 * configuration.run.batch_size, 1.0)

    monkeypatch.setattr(fitting, "usable_memory_gib", usable_memory_gib)
    monkeypatch.setattr(fitting, "measure", measure)
    return asked


def test_a_batch_is_fitted_to_the_gpu_that_was_asked_for(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, BUSY, LARGE)
    planned = plan(synthetic_dataset, tmp_path).configuration(None)
    size = planned.run.batch_size
    asked = measured_on(monkeypatch, usable_gib=0.1)  # so little that it is measured
    run = fitted(TrainJob(fold=0, work=tmp_path, device="gpu:1"))
    assert asked == ["NVIDIA H100", (size, "gpu:1")]
    assert run == FoldRun(configuration=planned)


def test_of_several_processes_each_is_measured_with_its_share(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, BUSY, LARGE)
    monkeypatch.setattr(fitting, "EASILY", 0.0)
    job = PlanJob(dataset=synthetic_dataset, work=tmp_path, settings=("batch_size=6",))
    planned = plan_dataset(job, workers=1).plan.configuration(None)
    rank = Rank(rank=1, world_size=2, local_rank=1, local_world_size=2)
    wanted = TrainJob(fold=0, work=tmp_path, rank=rank)
    asked = measured_on(monkeypatch, usable_gib=0.035)
    assert fitted(wanted, processes=2) == FoldRun(configuration=planned)
    assert asked == ["NVIDIA H100", (3, "gpu:1")]
    asked = measured_on(monkeypatch, usable_gib=0.025)
    smaller = fitted(wanted, processes=2).configuration.run
    assert asked == ["NVIDIA H100", (3, "gpu:1"), (2, "gpu:1")]
    assert (smaller.batch_size, smaller.training.accumulated_batches) == (3, 2)


def test_training_elsewhere_than_planned_is_said_in_our_words(
    tmp_path: Path,
    synthetic_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan(synthetic_dataset, tmp_path, target="cpu")
    install(monkeypatch, LARGE)
    with caplog.at_level(logging.WARNING):
        run = fitted(TrainJob(fold=0, work=tmp_path))
    assert "for a cpu, but this machine will train on its gpu" in caplog.text
    assert run.changes == ()


def test_folds_are_dealt_to_gpus_by_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, BUSY, LARGE)
    assert gpus_here() == ["gpu:0", "gpu:1"]


@pytest.mark.parametrize("typed", [None, "gpu", "cuda"])
def test_of_several_processes_each_has_its_own_gpu(
    typed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, BUSY, LARGE)
    rank = Rank(rank=1, world_size=2, local_rank=1, local_world_size=2)
    assert train._device(TrainJob(fold=0, device=typed, rank=rank)).name == "gpu:1"
