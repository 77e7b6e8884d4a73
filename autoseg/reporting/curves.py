"""How a training went, as a picture."""

import json
from pathlib import Path

from autoseg.records import replacing
from autoseg.reporting.charts import colour_of, drawable, new_figure, tidy, to_png


def draw_progress(metrics: Path, picture: Path) -> None:
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
    with replacing(picture) as temporary:
        temporary.write_bytes(to_png(figure, dpi=100))


def _drawn(value: float | None) -> float:
    return float("nan") if value is None else value
