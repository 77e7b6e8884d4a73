"""What a training shows beside its numbers: figures and TensorBoard's events in its folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autoseg.work_folder import FoldFolder

if TYPE_CHECKING:
    from autoseg.training.metrics_log import EpochSummary, TrainingListener
    from autoseg.training.validation import Example

EPOCHS_BETWEEN_EXAMPLES = 5


class WithFigures:
    """Passes a training's events on, draws `progress.png` and `examples.png`, feeds TensorBoard."""

    def __init__(self, listener: "TrainingListener", folder: FoldFolder) -> None:
        self.listener = listener
        self.folder = folder
        self.events: Any = None

    def on_message(self, text: str) -> None:
        self.listener.on_message(text)

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.listener.on_step(iteration, fraction, loss)

    def on_epoch(self, summary: "EpochSummary", examples: "Sequence[Example]") -> None:
        from autoseg.reporting.curves import draw_examples, draw_progress
        from autoseg.training.events import event_writer, write_events

        self.listener.on_epoch(summary, examples)
        self.events = self.events or event_writer(self.folder.tensorboard, summary.iteration)
        if self.events is not None:
            write_events(self.events, summary)
        draw_progress(self.folder.metrics, self.folder.progress)
        if examples and summary.epoch % EPOCHS_BETWEEN_EXAMPLES == 0:
            draw_examples(examples, self.folder.examples)
