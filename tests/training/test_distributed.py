"""Several processes train as one."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from autoseg.errors import AutosegError
from autoseg.training import distributed
from autoseg.training.distributed import SINGLE, ProcessGroup, join_group
from autoseg.training.job import Training
from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, changed_training, training_in
from tests.training.test_options import regions_and_ignored

PROCESSES, STEPS = 2, 8
SILENCE_S = 3.0
WORKS_S = 2 * SILENCE_S


def training_of(folder: Path, kind: str) -> Training:
    """Steps of three samples, so that the processes have unequal shares."""
    training = training_in(folder, STEPS)
    if kind == "ignored regions":
        training = regions_and_ignored(training)
    loss = {"batch_dice": kind != "sample by sample"}
    muon = {"optimizer": "muon", "learning_rate": 1e-3, "momentum": 0.95}
    steps = muon if kind == "Muon" else {}
    return changed_training(training, loss=loss, run={"batch_size": 3}, training=steps)


def join(rank: int, port: int, **more: str) -> ProcessGroup:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
        **more,
    }
    torch.set_num_threads(1)
    return join_group(rank, PROCESSES)


def train_in_group(rank: int, port: int, folder: Path, kind: str) -> None:
    training = replace(training_of(folder, kind), group=join(rank, port))
    recorder = Recorder()
    network, _ = train_model(training, recorder, Event(), resume=False)
    weights = compared(network, kind)
    looks = [(epoch.validation_loss, epoch.patch_dice) for epoch in recorder.epochs]
    torch.save((recorder.losses, weights, looks), folder / f"process_{rank}.pt")


def compared(network: torch.nn.Module, kind: str) -> torch.Tensor:
    """All weights in a row. A norm makes gradients of the biases before it zero but for rounding,
    which AdamW, that Muon uses for them, turns into whole steps: so they are left out."""
    least = 2 if kind == "Muon" else 0
    return torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim >= least])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("over the batch", marks=pytest.mark.slow),
        pytest.param("sample by sample", marks=pytest.mark.slow),
        pytest.param("Muon", marks=pytest.mark.slow),
        "ignored regions",
    ],
)
def test_two_processes_train_as_one_with_the_same_batch(tmp_path: Path, kind: str) -> None:
    alone = Recorder()
    training = training_of(tmp_path / "alone", kind)
    network, _ = train_model(training, alone, Event(), resume=False)
    folder = tmp_path / "group"
    folder.mkdir()
    spawn(train_in_group, (free_port(), folder, kind), PROCESSES)  # type: ignore[no-untyped-call]
    for rank in range(PROCESSES):
        losses, weights, looks = torch.load(folder / f"process_{rank}.pt")
        if rank == 0:
            assert len(losses) == STEPS
            np.testing.assert_allclose(losses, alone.losses, atol=1e-5, rtol=0)
            ((loss, dice),) = looks  # at patches that the processes share
            assert loss == pytest.approx(alone.epochs[0].validation_loss, abs=1e-4)
            assert dice == pytest.approx(alone.epochs[0].patch_dice, abs=1e-2)
        torch.testing.assert_close(weights, compared(network, kind), atol=1e-4, rtol=0)


def test_every_process_has_a_share_of_every_batch() -> None:
    shares = [ProcessGroup(rank, 3).share(8) for rank in range(3)]
    assert [i for share in shares for i in share] == list(range(8))
    assert min(len(share) for share in shares) >= 2
    with pytest.raises(AutosegError, match=r"batch of 2 cannot be shared by 3.*batch_size=3"):
        ProcessGroup(0, 3).share(2)


def succeed(folder: Path) -> None:
    time.sleep(WORKS_S)  # longer than a main process may be silent
    (folder / "done").touch()


def succeed_again(folder: Path) -> None:
    time.sleep(1)
    (folder / "done").touch()


def fail(folder: Path) -> None:
    raise OSError("the disk is full")


def die(folder: Path) -> None:
    os._exit(9)


def work_alone(
    rank: int, port: int, folder: Path, work: Callable[[Path], None], agent: bool
) -> None:
    """What came of it is written to a file, with how long it took and what was done by then."""
    distributed.SILENCE_S, distributed.HEARTBEAT_S = SILENCE_S, 0.2
    group = join(rank, port, TORCHELASTIC_USE_AGENT_STORE=str(agent))
    started, outcome = time.monotonic(), "returned"
    try:
        if work is succeed_again:
            group.main_alone(lambda: None, "preparing")
        group.main_alone(lambda: work(folder), "preparing")
    except (AutosegError, OSError) as error:
        outcome = f"{type(error).__name__}: {error}"
    report = f"{time.monotonic() - started}\n{(folder / 'done').exists()}\n{outcome}"
    (folder / f"{rank}.txt").write_text(report)
    os._exit(0)  # without waiting for a process that is no more


def outcomes(
    folder: Path, work: Callable[[Path], None], agent: bool = True
) -> dict[int, tuple[float, bool, str]]:
    """What came of the processes that told: seconds, whether the work was done, and in words.

    The store is the main process's own, or that of an agent beside it, as of torchrun's.
    """
    port = free_port()
    here = ("127.0.0.1", port)
    store = dist.TCPStore(*here, is_master=True) if agent else None  # type: ignore[attr-defined]
    arguments = (port, folder, work, agent)
    context: Any = spawn(work_alone, arguments, PROCESSES, join=False)  # type: ignore[no-untyped-call]
    for process in context.processes:
        process.join(60)
        assert not process.is_alive(), process.kill()
    del store
    found = {}
    for rank in range(PROCESSES):
        if (folder / f"{rank}.txt").exists():
            seconds, done, outcome = (folder / f"{rank}.txt").read_text().split("\n", 2)
            found[rank] = float(seconds), done == "True", outcome
    return found


@pytest.mark.slow
def test_others_wait_until_the_main_process_has_done_its_work(tmp_path: Path) -> None:
    found = outcomes(tmp_path, succeed)
    for rank in range(PROCESSES):
        seconds, done, outcome = found[rank]
        assert (done, outcome) == (True, "returned")
        assert seconds > WORKS_S - 1  # it began a little before


@pytest.mark.slow
def test_others_wait_again_for_work_of_the_same_name(tmp_path: Path) -> None:
    found = outcomes(tmp_path, succeed_again)
    assert [found[rank][1:] for rank in range(PROCESSES)] == [(True, "returned")] * 2


def test_others_fail_when_the_main_process_did(tmp_path: Path) -> None:
    found = outcomes(tmp_path, fail)
    assert found[0][2] == "OSError: the disk is full"
    seconds, _, outcome = found[1]
    assert outcome == "AutosegError: The first process failed while preparing, and says why."
    assert seconds < SILENCE_S


@pytest.mark.parametrize("agent", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_others_fail_when_the_main_process_was_killed(tmp_path: Path, agent: bool) -> None:
    found = outcomes(tmp_path, die, agent)
    assert found.keys() == {1}
    seconds, _, outcome = found[1]
    how = "has not been heard of for 3 seconds" if agent else "was lost"
    assert outcome.startswith(f"AutosegError: The first process {how} while it should be preparing")
    assert seconds < 3 * SILENCE_S
    if agent:
        assert seconds > SILENCE_S - 1


def test_a_process_alone_works_at_once() -> None:
    done = []
    SINGLE.main_alone(lambda: done.append(1), "preparing")
    assert done == [1]
    with pytest.raises(OSError, match="the disk is full"):
        SINGLE.main_alone(lambda: fail(Path()), "preparing")
