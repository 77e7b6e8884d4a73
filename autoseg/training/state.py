"""Where a training stands, on disk: weights, moments and position in one file, and the one before.

Two generations are kept, so that whatever happens to the newer one, at most one is lost.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from autoseg.checkpoint import read_metadata, read_tensors, save_tensors
from autoseg.device import Precision
from autoseg.errors import AutosegError
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import Execution
from autoseg.records import Record, parse_record
from autoseg.training.learner import Learner
from autoseg.training.schedule import Budget

log = logging.getLogger(__name__)

STATE_KEY = "training_state"
WEIGHT, AVERAGE, MOMENT = "weight.", "average.", "moment."


class Position(Record):
    """How far a training is. Every random draw is keyed by seed and iteration, so no more is needed
    for the next draws to be those of an uninterrupted run."""

    iteration: int
    elapsed_s: float
    stopped_early: bool = False
    epoch_losses: tuple[float, ...] = ()  # of the steps since the last epoch ended
    skipped: int = 0  # steps of the epoch whose gradient was not finite


class SavedState(Record):
    """The position, what was being trained, for how long, from which seed, and how it was run.

    `planned` is the configuration of the plan, `configuration` that of this training, whose batches
    may be smaller. `scaler` is the state of the gradient scaler, empty unless training in half
    precision.
    """

    position: Position
    planned: Configuration
    configuration: Configuration
    budget: Budget
    seed: int
    execution: Execution
    precision: Precision
    scaler: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateFiles:
    """One training's state, and the one before it."""

    newest: Path
    previous: Path

    def exist(self) -> bool:
        return self.newest.is_file() or self.previous.is_file()

    def read(self) -> SavedState:
        """The newest state that is whole, without its tensors. Raises AutosegError when none is."""
        return _described(self._whole())

    def save(self, learner: Learner, state: SavedState) -> None:
        """Write everything atomically: the previous state stays until the new one is whole."""
        tensors = _prefixed(WEIGHT, learner.network.state_dict())
        tensors |= _prefixed(MOMENT, dict(learner.named_moments()))
        if learner.average is not None:
            tensors |= _prefixed(AVERAGE, learner.average.state_dict())
        state = state.model_copy(update={"scaler": learner.scaler.state_dict()})
        if self.newest.is_file():
            self.newest.replace(self.previous)
        save_tensors(self.newest, tensors, {STATE_KEY: state.model_dump_json()})

    def load(self, learner: Learner) -> SavedState:
        """Put everything back, and say where the training stands."""
        path = self._whole()
        state = _described(path)
        tensors, _ = read_tensors(path)
        learner.network.load_state_dict(_of_prefix(WEIGHT, tensors))
        if learner.average is not None:
            learner.average.load_state_dict(_of_prefix(AVERAGE, tensors))
        for named, value in _of_prefix(MOMENT, tensors).items():
            learner.set_moment(named, value)
        if state.scaler and learner.scaler.is_enabled():
            learner.scaler.load_state_dict(state.scaler)
        if path == self.previous:  # else the damaged one would take its place when next saved
            self.newest.unlink(missing_ok=True)
        return state

    def _whole(self) -> Path:
        """The newest file that can be read."""
        if not self.previous.is_file():
            return self.newest
        try:
            _described(self.newest)
        except AutosegError as damage:
            log.warning("%s The state before it is taken.", damage)
            return self.previous
        return self.newest


def _described(path: Path) -> SavedState:
    metadata = read_metadata(path)
    if STATE_KEY not in metadata:
        raise AutosegError(f"{path}: holds no state of a training. Train anew with --overwrite.")
    return parse_record(SavedState, json.loads(metadata[STATE_KEY]), str(path))


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value.detach().cpu() for name, value in tensors.items()}


def _of_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
