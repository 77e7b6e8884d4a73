"""How a training went, as figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.records import replacing
from autoseg.reporting.charts import WIDTH_IN, colour_of, drawable, new_figure, tidy, to_png

if TYPE_CHECKING:
    from autoseg.training.metrics_log import EpochSummary
    from autoseg.training.validation import Example

FEW_EPOCHS = 50  # up to which each is marked


def draw_progress(metrics: Path, png: Path) -> None:
    """Draw `metrics.jsonl` as a PNG: losses, and Dice of held-out patches per class, over time."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    if not rows:
        return
    minutes = [row["elapsed_s"] / 60 for row in rows]
    figure = new_figure(9, 4)
    loss_axes, dice_axes = figure.subplots(1, 2)
    losses = (("train_loss", "training"), ("validation_loss", "held-out patches"))
    for order, (key, label) in enumerate(losses):
        values = [_drawn(row[key]) for row in rows]
        loss_axes.plot(minutes, values, marker=".", label=label, color=colour_of(order))
    loss_axes.set(xlabel="minutes", ylabel="loss")
    loss_axes.legend()
    for order, name in enumerate(rows[-1]["patch_dice"]):
        values = [_drawn(row["patch_dice"].get(name)) for row in rows]
        label = drawable(name, f"class {order + 1}")
        dice_axes.plot(minutes, values, marker=".", label=label, color=colour_of(order))
    dice_axes.set(xlabel="minutes", ylabel="Dice of held-out patches", ylim=(0, 1))
    if rows[-1]["patch_dice"]:
        dice_axes.legend()
    for axes in (loss_axes, dice_axes):
        tidy(axes, "both")
    with replacing(png, synced=False) as temporary:
        temporary.write_bytes(to_png(figure, dpi=100))


def draw_trainings(folds: "Sequence[tuple[str, Sequence[EpochSummary]]]") -> bytes:
    """A PNG of the losses, and the mean Dice of held-out patches, of folds that share a plan."""
    figure = new_figure(WIDTH_IN, 3.9)
    loss_axes, dice_axes = figure.subplots(1, 2)
    for order, (fold, epochs) in enumerate(folds):
        minutes = [epoch.elapsed_s / 60 for epoch in epochs]
        style: dict[str, Any] = {"color": colour_of(order), "linewidth": 1.5}
        style["marker"] = "." if len(epochs) < FEW_EPOCHS else ""
        loss_axes.plot(minutes, [_drawn(e.train_loss) for e in epochs], label=fold, **style)
        held_out = [_drawn(epoch.validation_loss) for epoch in epochs]
        loss_axes.plot(minutes, held_out, linestyle="dashed", **style)
        dice_axes.plot(minutes, [_mean_dice(epoch) for epoch in epochs], label=fold, **style)
    loss_axes.set(xlabel="minutes", ylabel="loss")
    dice_axes.set(xlabel="minutes", ylabel="mean Dice of held-out patches", ylim=(0, 1))
    dice_axes.legend(title="fold", frameon=False, loc="lower right", ncols=2)
    for axes in (loss_axes, dice_axes):
        tidy(axes, "both")
    return to_png(figure)


def draw_examples(examples: "Sequence[Example]", png: Path) -> None:
    """Draw slices of held-out patches as a PNG: predictions solid, the truth dashed."""
    figure = new_figure(3 * len(examples), 3.2)
    plots = figure.subplots(1, len(examples), squeeze=False)[0]
    for plot, example in zip(plots, examples, strict=True):
        plot.imshow(example.image, cmap="gray", origin="lower")
        for masks, style in ((example.truth, "dashed"), (example.prediction, "solid")):
            for order, mask in enumerate(masks):
                if mask.any() and not mask.all() and min(mask.shape) > 1:
                    colour = colour_of(order)
                    plot.contour(mask.astype(float), [0.5], colors=[colour], linestyles=[style])
        plot.set_title(drawable(example.case_id, "patch"), fontsize=9)
        plot.set_axis_off()
    with replacing(png, synced=False) as temporary:
        temporary.write_bytes(to_png(figure, dpi=90))


def _mean_dice(epoch: "EpochSummary") -> float:
    known = [dice for dice in epoch.patch_dice.values() if dice is not None]
    return sum(known) / len(known) if known else float("nan")


def _drawn(value: float | None) -> float:
    return float("nan") if value is None else value
