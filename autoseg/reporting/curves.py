"""How a training went, as a picture."""

import json
from pathlib import Path

from autoseg.records import replacing


def draw_progress(metrics: Path, picture: Path) -> None:
    """Draw `metrics.jsonl` as a PNG: losses, and Dice of held-out patches per class, over time."""
    # matplotlib takes over a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    if not rows:
        return
    minutes = [row["elapsed_s"] / 60 for row in rows]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, dice_axes = figure.subplots(1, 2)
    for key, label in (("train_loss", "training"), ("validation_loss", "held-out patches")):
        loss_axes.plot(minutes, [row[key] for row in rows], marker=".", label=label)
    loss_axes.set(xlabel="minutes", ylabel="loss")
    loss_axes.legend()
    for name in rows[-1]["patch_dice"]:
        values = [row["patch_dice"].get(name) for row in rows]
        dice_axes.plot(
            minutes, [float("nan") if v is None else v for v in values], marker=".", label=name
        )
    dice_axes.set(xlabel="minutes", ylabel="Dice of held-out patches", ylim=(0, 1))
    if rows[-1]["patch_dice"]:
        dice_axes.legend()
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
