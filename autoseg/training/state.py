"""Where a training stands, on disk: weights, moments and position in one file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from autoseg.checkpoint import read_metadata, read_tensors, save_tensors
from autoseg.errors import AutosegError
from autoseg.planning.plan import Configuration, Form
from autoseg.records import Record, parse_record
from autoseg.training.learner import Learner

STATE_KEY = "training_state"
WEIGHT, AVERAGE, MOMENT = "weight.", "average.", "moment."


class Position(Record):
    """How far a training is. Every random draw is keyed by seed and iteration, so no more is needed
    for the next draws to be those of an uninterrupted run."""

    iteration: int
    elapsed_s: float
    stopped_early: bool = False


class SavedState(Record):
    """The position, what was being trained, for how long, from which seed, and how it was run.

    `scaler` is the state of the gradient scaler, empty unless training in half precision.
    """

    position: Position
    configuration: Configuration
    budget_iterations: int | None
    budget_seconds: float | None
    seed: int
    form: Form
    scaler: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateFile:
    """One training's state under `resume/`."""

    path: Path

    @classmethod
    def of(cls, folder: Path) -> "StateFile":
        return cls(folder / "resume" / "state.safetensors")

    def exists(self) -> bool:
        return self.path.is_file()

    def read(self) -> SavedState:
        """The state without its tensors. Raises AutosegError when it is absent or damaged."""
        metadata = read_metadata(self.path)
        return parse_record(SavedState, json.loads(metadata[STATE_KEY]), str(self.path))

    def save(self, learner: Learner, state: SavedState) -> None:
        """Write everything atomically: the previous state stays until the new one is whole."""
        tensors = _prefixed(WEIGHT, learner.network.state_dict())
        tensors |= _prefixed(MOMENT, dict(learner.named_moments()))
        if learner.average is not None:
            tensors |= _prefixed(AVERAGE, learner.average.state_dict())
        state = state.model_copy(update={"scaler": learner.scaler.state_dict()})
        save_tensors(self.path, tensors, {STATE_KEY: state.model_dump_json()})

    def load(self, learner: Learner, configuration: Configuration) -> SavedState:
        """Put everything back. Raises AutosegError when another plan was trained."""
        state = self.read()
        tensors, _ = read_tensors(self.path)
        if state.configuration != configuration:
            raise AutosegError(
                f"{self.path}: this training was begun with another plan. Train anew with "
                "--overwrite, or restore the plan."
            )
        learner.network.load_state_dict(_of_prefix(WEIGHT, tensors))
        if learner.average is not None:
            learner.average.load_state_dict(_of_prefix(AVERAGE, tensors))
        for named, value in _of_prefix(MOMENT, tensors).items():
            learner.set_moment(named, value)
        if state.scaler and learner.scaler.is_enabled():
            learner.scaler.load_state_dict(state.scaler)
        return state


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value.detach().cpu() for name, value in tensors.items()}


def _of_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
