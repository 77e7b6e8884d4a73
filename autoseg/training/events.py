"""Epochs for TensorBoard, where it is installed."""

from pathlib import Path
from typing import Any

from autoseg.training.metrics_log import EpochSummary


def event_writer(folder: Path, iteration: int) -> Any | None:
    """A writer of events into a folder from an iteration on; None without the extra."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=iteration)


def write_events(writer: Any, summary: EpochSummary) -> None:
    """Losses, learning rate and Dice of an epoch, over iterations."""
    values = {
        "loss/training": summary.train_loss,
        "loss/held-out patches": summary.validation_loss,
        "learning rate": summary.learning_rate,
        **{f"Dice/{name}": value for name, value in summary.patch_dice.items()},
    }
    for name, value in values.items():
        if value is not None:
            writer.add_scalar(name, value, summary.iteration)
    writer.flush()
