"""Scores as charts: boxes with their points, agreement of volumes, and reliability diagrams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.calibration import Reliability
from autoseg.reporting.charts import (
    GREY,
    LIGHT_GREY,
    WIDTH_IN,
    colour_of,
    drawable,
    new_figure,
    tidy,
    to_png,
)
from autoseg.reporting.content import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES_IN_FIGURE = 12
PANELS_IN_A_ROW = 3
JITTER = 0.16
BARS_SHARE = 0.2  # of a reliability diagram, for how many voxels a bin has
LIMITS_SD = 1.96  # of the differences, where 95 % lie between


@dataclass(frozen=True, slots=True)
class Agreement:
    """Volumes of one class in every scan that has it in prediction or reference, in ml."""

    name: str
    colour: str
    predicted_ml: NDArray[np.float64]
    reference_ml: NDArray[np.float64]

    @property
    def difference_ml(self) -> NDArray[np.float64]:
        return self.predicted_ml - self.reference_ml

    @property
    def bias_ml(self) -> float:
        return float(self.difference_ml.mean())

    @property
    def limits_ml(self) -> tuple[float | None, float | None]:
        """The limits of agreement; a single scan has none."""
        if len(self.difference_ml) < 2:
            return None, None
        reach = LIMITS_SD * float(self.difference_ml.std(ddof=1))
        return self.bias_ml - reach, self.bias_ml + reach


def agreement_of(scored: Scored) -> list[Agreement]:
    """Of each class that any scan has."""
    found = []
    for order, key in enumerate(scored.evaluation.classes):
        pairs = [
            (scores[key].get("volume_ml"), scores[key].get("reference_volume_ml"))
            for scores in scored.evaluation.cases.values()
        ]
        known = np.array([pair for pair in pairs if None not in pair and any(pair)], np.float64)
        if len(known):
            found.append(Agreement(scored.class_name(key), colour_of(order), *known.T))
    return found


def draw_boxes(scored: Scored, metric: str, label: str) -> bytes | None:
    """A PNG: for each class a box from quartile to quartile, whiskers to the last point within 1.5
    of its height, and every case as a point. None where no case has the metric.

    Of many classes the worst are drawn.
    """
    values = {key: _values(scored, key, metric) for key in scored.evaluation.classes}
    drawn = [key for key in values if len(values[key])]
    if not drawn:
        return None
    drawn = sorted(drawn, key=lambda key: np.median(values[key]))[:CLASSES_IN_FIGURE]
    drawn = [key for key in values if key in drawn]
    colours = scored.class_colours()
    figure = new_figure(min(WIDTH_IN, 2.2 + 1.5 * len(drawn)), 3.8)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for place, key in enumerate(drawn):
        points = values[key]
        axes.boxplot(points, positions=[place], widths=0.55, showfliers=False, patch_artist=True,
                     boxprops={"facecolor": "none", "edgecolor": "#333333"},
                     medianprops={"color": "black", "linewidth": 1.8})  # fmt: skip
        jitter = rng.uniform(-JITTER, JITTER, len(points)) if len(points) > 1 else 0.0
        axes.scatter(place + jitter, points, s=12, color=colours[key], alpha=0.65, linewidths=0)
    names = [drawable(scored.class_name(key), f"class {key}", limit=16) for key in drawn]
    axes.set_xticks(range(len(drawn)), names)
    axes.set_xlim(-0.6, len(drawn) - 0.4)
    axes.set_ylabel(label)
    tidy(axes, "y")
    return to_png(figure)


def draw_agreement(agreements: Sequence[Agreement]) -> bytes:
    """A PNG with a panel for each class: differences of volumes against their means."""
    drawn = agreements[:CLASSES_IN_FIGURE]
    figure, panels = _panels(len(drawn), 3.4)
    for order, (panel, agreement) in enumerate(zip(panels, drawn, strict=True)):
        _draw_panel(panel, agreement, f"class {order + 1}")
    return to_png(figure)


def draw_reliability(counted: Sequence[tuple[int, Reliability]]) -> bytes:
    """A PNG with a panel for each class, which has its place among all classes beside it: the share
    of voxels that have the class against its mean probability in every bin, and a bin's voxels."""
    drawn = counted[:CLASSES_IN_FIGURE]
    figure, panels = _panels(len(drawn), 3.9)
    for panel, (order, reliability) in zip(panels, drawn, strict=True):
        _draw_bins(panel, reliability, order)
    return to_png(figure)


def _panels(count: int, height_in: float) -> "tuple[Figure, list[Axes]]":
    """A figure of so many panels, each of a height."""
    columns = min(PANELS_IN_A_ROW, count)
    rows = -(-count // columns)
    figure = new_figure(WIDTH_IN * columns / PANELS_IN_A_ROW, height_in * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def _draw_bins(axes: "Axes", reliability: Reliability, order: int) -> None:
    voxels, probability, with_class = reliability.counts
    there = voxels > 0
    means, shares = probability[there] / voxels[there], with_class[there] / voxels[there]
    heights = np.log10(1 + voxels) / np.log10(1 + voxels.max())
    width = 1 / len(voxels)
    places = width * (np.arange(len(voxels)) + 0.5)
    axes.bar(places, BARS_SHARE * heights, 0.85 * width, color=LIGHT_GREY)
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(means, shares, "o-", color=colour_of(order), markersize=5, linewidth=1.4)
    axes.set_title(drawable(reliability.name, f"class {order + 1}"), fontsize=11)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xlabel="predicted probability", ylabel="share of voxels with the class")
    tidy(axes, "both")


def _draw_panel(axes: "Axes", agreement: Agreement, otherwise: str) -> None:
    means_ml = (agreement.predicted_ml + agreement.reference_ml) / 2
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhline(agreement.bias_ml, color="black", linewidth=1.4)
    for limit_ml in agreement.limits_ml:
        if limit_ml is not None:
            axes.axhline(limit_ml, color="black", linewidth=1, linestyle=(0, (4, 3)))
    axes.scatter(
        means_ml, agreement.difference_ml, s=14, color=agreement.colour, alpha=0.7, linewidths=0
    )
    axes.set_title(drawable(agreement.name, otherwise), fontsize=11)
    axes.set(xlabel="mean of both volumes (ml)", ylabel="prediction - reference (ml)")
    tidy(axes, "both")


def _values(scored: Scored, key: str, metric: str) -> NDArray[np.float64]:
    scores = (case[key].get(metric) for case in scored.evaluation.cases.values())
    return np.array([score for score in scores if score is not None], np.float64)
