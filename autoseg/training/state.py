"""Where a training stands, on disk: weights, momentum and position in one file."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from autoseg.checkpoint import read_metadata, read_tensors, save_tensors
from autoseg.errors import AutosegError
from autoseg.planning.plan import Configuration
from autoseg.records import Record, parse_record

STATE_KEY = "training_state"
WEIGHT, MOMENTUM = "weight.", "momentum."


class Position(Record):
    """How far a training is. Every random draw is keyed by seed and iteration, so no more is needed
    for the next draws to be those of an uninterrupted run."""

    iteration: int
    elapsed_s: float


class SavedState(Record):
    """The position, and what was being trained, for how long, from which seed."""

    position: Position
    configuration: Configuration
    budget_iterations: int | None
    budget_seconds: float | None
    seed: int


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

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, state: SavedState) -> None:
        """Write everything atomically: the previous state stays until the new one is whole."""
        tensors = {WEIGHT + key: value for key, value in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[MOMENTUM + name] = momentum
        save_tensors(self.path, tensors, {STATE_KEY: state.model_dump_json()})

    def load(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, configuration: Configuration
    ) -> SavedState:
        """Put weights and momentum back. Raises AutosegError when another plan was trained."""
        state = self.read()
        tensors, _ = read_tensors(self.path)
        if state.configuration != configuration:
            raise AutosegError(
                f"{self.path}: this training was begun with another plan. Train anew with "
                "--overwrite, or restore the plan."
            )
        network.load_state_dict(
            {k.removeprefix(WEIGHT): v for k, v in tensors.items() if k.startswith(WEIGHT)}
        )
        for name, parameter in network.named_parameters():
            if MOMENTUM + name in tensors:
                momentum = tensors[MOMENTUM + name].to(parameter.device)
                optimizer.state[parameter]["momentum_buffer"] = momentum
        return state
