from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autoseg.training.events import event_writer, write_events
from autoseg.training.metrics_log import EpochSummary

SUMMARY = EpochSummary(
    epoch=1,
    iteration=20,
    elapsed_s=3.0,
    learning_rate=0.01,
    train_loss=0.5,
    validation_loss=None,
    patch_dice={"organ": 0.75, "lesion": None},
)


def test_an_epoch_is_written_as_tensorboard_reads_it(tmp_path: Path) -> None:
    writer = event_writer(tmp_path, 0)
    assert writer is not None
    write_events(writer, SUMMARY)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss/training", "learning rate", "Dice/organ"]
    (dice,) = events.Scalars("Dice/organ")
    assert (dice.step, dice.value) == (20, pytest.approx(0.75))
