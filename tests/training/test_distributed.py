"""Several processes train as one."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import spawn

from autoseg.errors import AutosegError
from autoseg.training.distributed import Team, join_team
from autoseg.training.trainer import TrainingJob, train_model
from tests.training.test_options import changed_job, regions_and_ignored
from tests.training.test_trainer import Recorder, job_in

PROCESSES, STEPS = 2, 20


def job_of(folder: Path, kind: str) -> TrainingJob:
    """Twenty steps of three samples, so that the processes have unequal shares."""
    job = job_in(folder, STEPS)
    if kind == "ignored regions":
        job = regions_and_ignored(job)
    job = changed_job(job, loss={"batch_dice": kind != "sample by sample"})
    configuration = job.configuration.model_copy(update={"batch_size": 3})
    return replace(job, card=job.card.model_copy(update={"configuration": configuration}))


def train_in_team(rank: int, port: int, folder: Path, kind: str) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
    }
    torch.set_num_threads(1)
    job = replace(job_of(folder, kind), team=join_team(rank, PROCESSES))
    recorder = Recorder()
    network, _ = train_model(job, recorder, Event(), resume=False)
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    torch.save((recorder.losses, weights), folder / f"process_{rank}.pt")


@pytest.mark.parametrize("kind", ["over the batch", "sample by sample", "ignored regions"])
def test_two_processes_train_as_one_with_the_same_batch(tmp_path: Path, kind: str) -> None:
    alone = Recorder()
    job = job_of(tmp_path / "alone", kind)
    network, _ = train_model(job, alone, Event(), resume=False)
    folder = tmp_path / "team"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(train_in_team, (port, folder, kind), PROCESSES)  # type: ignore[no-untyped-call]
    for rank in range(PROCESSES):
        losses, weights = torch.load(folder / f"process_{rank}.pt")
        if rank == 0:
            assert len(losses) == STEPS
            np.testing.assert_allclose(losses, alone.losses, atol=1e-5, rtol=0)
        expected = torch.cat([p.detach().flatten() for p in network.parameters()])
        torch.testing.assert_close(weights, expected, atol=1e-4, rtol=0)


def test_every_process_has_a_share_of_every_batch() -> None:
    shares = [Team(rank, 3).share(8) for rank in range(3)]
    assert [i for share in shares for i in share] == list(range(8))
    assert min(len(share) for share in shares) >= 2
    with pytest.raises(AutosegError, match=r"batch of 2 cannot be shared by 3.*batch_size=3"):
        Team(0, 3).share(2)
