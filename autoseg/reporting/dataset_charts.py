"""A dataset and what was planned for it, as charts: grids, intensities, class imbalance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.inspection.fingerprint import ClassStats, Fingerprint
from autoseg.inspection.statistics import IntensityStats
from autoseg.planning.facts import oriented_grids
from autoseg.planning.grid_plan import ChannelNormalization
from autoseg.planning.plan import Configuration, Plan
from autoseg.reporting.charts import (
    COLOURS,
    GREY,
    LIGHT_GREY,
    WIDTH_IN,
    colour_of,
    drawable,
    new_figure,
    plain_number,
    scale_axis,
    tidy,
    to_png,
    use_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

CLASSES_DRAWN = 12
CHANNELS_DRAWN = 6
CHANNELS_IN_A_ROW = 3
SPACINGS_COUNTED = 3  # up to as many different ones are labelled with their number of scans
CONFIGURATION_COLOURS = {"2d": COLOURS[1], "3d_fullres": COLOURS[0], "3d_lowres": COLOURS[2]}
AXIS_NAMES: dict[str, tuple[str, str, str]] = {
    "canonical": ("superior-inferior", "anterior-posterior", "left-right"),
    "as_stored": ("z", "y", "x"),
    "flat": ("slices", "rows", "columns"),
}
JITTER = 0.3
SPIKE = 0.5  # a bin with a larger share is cut off, or nothing else would be seen
PEAK = 0.85  # height of a histogram, where rows are 1 apart
WIDE_APART = 30.0  # medians of scans that differ by more need a log scale


@dataclass(frozen=True, slots=True)
class PlannedGrids:
    """All scans along the plan's axes, of which the first is across slices; shapes are cropped.

    Spacing across a single slice is NaN. `configurations` are those with these very axes, the
    recommended one first.
    """

    axis_names: tuple[str, ...]
    spacing_mm: NDArray[np.float64]  # [case, axis]
    shape_vox: NDArray[np.float64]  # [case, axis]
    configurations: tuple[Configuration, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which any scan has more than one voxel."""
        return tuple(axis for axis in range(3) if not np.isnan(self.spacing_mm[:, axis]).all())


def planned_grids(plan: Plan, fingerprint: Fingerprint) -> PlannedGrids:
    """Turn all scans to the axes of the plan's recommended configuration."""
    chosen = plan.configuration(None)
    spacing_mm, shape_vox = oriented_grids(fingerprint, chosen.grid.orientation)
    order = list(chosen.grid.axis_order)
    shape = shape_vox[:, order].astype(np.float64)
    is_flat = bool((shape[:, 0] == 1).all())
    names = [AXIS_NAMES[chosen.grid.orientation][axis] for axis in order]
    return PlannedGrids(
        axis_names=AXIS_NAMES["flat"] if is_flat else tuple(names),
        spacing_mm=np.where(shape == 1, np.nan, spacing_mm[:, order]),
        shape_vox=shape,
        configurations=tuple(
            c
            for c in sorted(plan.configurations.values(), key=lambda c: c is not chosen)
            if (c.grid.orientation, c.grid.axis_order)
            == (chosen.grid.orientation, chosen.grid.axis_order)
            and c.previous_stage is None
        ),
    )


def drawn_classes(fingerprint: Fingerprint) -> list[ClassStats]:
    """The classes that charts show, rarest first."""
    return sorted(fingerprint.classes, key=lambda c: c.image_fraction)[:CLASSES_DRAWN]


def draw_grids(grids: PlannedGrids) -> bytes:
    """A PNG: spacing, shape in voxels and in mm of every scan, targets and patches marked."""
    figure = new_figure(WIDTH_IN, 4.5)
    spacing, voxels, millimetres = figure.subplots(1, 3)
    _draw_spacing(spacing, grids)
    _draw_sizes(voxels, grids, in_mm=False)
    _draw_sizes(millimetres, grids, in_mm=True)
    handles = [
        _mark("a scan", color=GREY, marker="o", linestyle="none"),
        _mark("median scan on the plan's grid", color="black", linewidth=1.2),
    ]
    for configuration in grids.configurations:
        handles.append(
            _mark(
                f"{configuration.name}: target spacing, patch",
                color=CONFIGURATION_COLOURS[configuration.name],
                linestyle=_line_style(configuration),
                linewidth=2.2,
                marker="D",
                markerfacecolor="none",
            )
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return to_png(figure)


def draw_intensities(
    fingerprint: Fingerprint, channels: Sequence[ChannelNormalization]
) -> list[bytes]:
    """PNGs of a few channels each: histograms per class, and the spread of each scan's foreground.

    Without histograms in the fingerprint only the latter.
    """
    names = fingerprint.channel_names[:CHANNELS_DRAWN]
    classes = [c for c in reversed(drawn_classes(fingerprint)) if c.histogram]
    has_histograms = bool(fingerprint.histogram_edges and classes)
    drawn = []
    for first in range(0, len(names), CHANNELS_IN_A_ROW):
        together = range(first, min(first + CHANNELS_IN_A_ROW, len(names)))
        row_in = max(2.8, 1.1 + 0.36 * (len(classes) + 1)) if has_histograms else 0.0
        if len(together) == 1 and has_histograms:
            figure = new_figure(WIDTH_IN, row_in)
            panels = figure.subplots(1, 2).reshape(2, 1)
        else:
            heights = [row_in, 2.6] if has_histograms else [2.6]
            figure = new_figure(WIDTH_IN, sum(heights))
            panels = figure.subplots(
                len(heights), len(together), squeeze=False, height_ratios=heights
            )
        for column, channel in enumerate(together):
            if has_histograms:
                _draw_histograms(
                    panels[0, column], fingerprint, classes, channel, channels[channel]
                )
            _draw_scans(panels[-1, column], fingerprint, channel)
        drawn.append(to_png(figure))
    return drawn


def draw_classes(fingerprint: Fingerprint) -> bytes:
    """A PNG of the rarest classes: share of the image, component volumes, share of cases."""
    classes = drawn_classes(fingerprint)
    figure = new_figure(WIDTH_IN, 1.4 + 0.34 * len(classes))
    imbalance, volumes, cases = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 1.25, 0.8))
    rows = np.arange(len(classes))
    colours = [colour_of(fingerprint.classes.index(c)) for c in classes]
    _draw_fractions(imbalance, classes, colours)
    _draw_volumes(volumes, classes, colours)
    cases.barh(rows, [100 * c.case_fraction for c in classes], color=colours, height=0.6)
    cases.set(xlim=(0, 100), xlabel="%")
    cases.set_title("Scans that have it", fontsize=11)
    imbalance.set_yticks(rows, [drawable(c.name, f"class {c.value}") for c in classes])
    imbalance.set_ylim(len(classes) - 0.4, -0.6)
    for axes in (imbalance, volumes, cases):
        tidy(axes, "x")
        axes.tick_params(axis="y", length=0)
    return to_png(figure)


def _draw_spacing(axes: "Axes", grids: PlannedGrids) -> None:
    """Through-plane against in-plane spacing; of flat data rows against columns."""
    is_flat = 0 not in grids.axes
    across = grids.spacing_mm[:, 1 if is_flat else 0]
    within = grids.spacing_mm[:, 2] if is_flat else grids.spacing_mm[:, 1:].mean(axis=1)
    known = ~np.isnan(across + within)
    axes.set_title("Voxel spacing", fontsize=11)
    if not known.any():
        axes.text(0.5, 0.5, "single slices in several directions", ha="center")
        return
    counts = Counter(zip(within[known].round(3), across[known].round(3), strict=True))
    x, y = np.array(list(counts)).T
    share = np.array(list(counts.values())) / counts.total()
    axes.scatter(x, y, s=12 + 150 * share, color=GREY, alpha=0.6, linewidths=0, zorder=2)
    if len(counts) <= SPACINGS_COUNTED:
        for (column, row), count in counts.items():
            axes.annotate(f"{count} scans" if count > 1 else "1 scan", (column, row), fontsize=9,
                          xytext=(9, -11), textcoords="offset points")  # fmt: skip
    top = float(max(x.max(), y.max()))
    for configuration in grids.configurations:
        target = configuration.grid.target_spacing_mm
        colour = CONFIGURATION_COLOURS[configuration.name]
        if configuration.model.spatial_dims == 2 and not is_flat:
            axes.axvline(float(np.mean(target)), color=colour, linewidth=2.2, zorder=1,
                         linestyle=_line_style(configuration))  # fmt: skip
            continue
        target_x, target_y = float(np.mean(target[1:])), target[0]  # flat: of columns, of rows
        axes.scatter([target_x], [target_y], s=110, marker="D", facecolors="none",
                     edgecolors=colour, linewidths=1.8, zorder=3)  # fmt: skip
        x, y = np.append(x, target_x), np.append(y, target_y)
    axes.axline((top, top), slope=1, color=LIGHT_GREY, linewidth=1, zorder=0)
    scale_axis(axes, "x", x.min(), x.max())
    scale_axis(axes, "y", y.min(), y.max())
    names = ("column", "row") if is_flat else ("in-plane", "through-plane")
    axes.set(xlabel=f"{names[0]} spacing (mm)", ylabel=f"{names[1]} spacing (mm)")
    tidy(axes, "both")


def _draw_sizes(axes: "Axes", grids: PlannedGrids, in_mm: bool) -> None:
    """The size of every scan along each axis; lines are patches, and the median scan."""
    rng = np.random.default_rng(0)
    spacing = grids.spacing_mm if in_mm else np.where(np.isnan(grids.spacing_mm), np.nan, 1)
    seen: list[float] = []
    for place, axis in enumerate(grids.axes):
        sizes = grids.shape_vox[:, axis] * spacing[:, axis]
        sizes = sizes[~np.isnan(sizes)]
        jitter = rng.uniform(-JITTER, JITTER, len(sizes)) if len(sizes) > 1 else 0.0
        axes.scatter(place + jitter, sizes, s=11, color=GREY, alpha=0.45, linewidths=0, zorder=2)
        seen += sizes.tolist()
        for configuration in grids.configurations:
            own = axis - 3 + configuration.model.spatial_dims  # a 2d configuration lacks the first
            if own < 0:
                continue
            scale = configuration.grid.target_spacing_mm[own] if in_mm else 1.0
            patch = configuration.model.patch_size_vox[own] * scale
            colour = CONFIGURATION_COLOURS[configuration.name]
            if configuration is grids.configurations[0]:
                median = configuration.inference.median_shape_vox[own] * scale
                axes.hlines(
                    median, place - 0.2, place + 0.2, color="black", linewidth=1.2, zorder=6
                )
                seen.append(median)
            axes.hlines(patch, place - 0.42, place + 0.42, color=colour, linewidth=2.2,
                        zorder=6 - configuration.model.spatial_dims,
                        linestyle=_line_style(configuration))  # fmt: skip
            seen.append(patch)
    names = [grids.axis_names[axis].replace("-", "-\n") for axis in grids.axes]
    axes.set_xticks(range(len(grids.axes)), names)
    axes.set_xlim(-0.6, len(grids.axes) - 0.4)
    unit = "mm" if in_mm else "voxels"
    axes.set_ylabel(f"size ({unit})")
    axes.set_title(f"Size of scans and patches in {unit}", fontsize=11)
    scale_axis(axes, "y", min(seen), max(seen))
    tidy(axes, "y")


def _draw_histograms(
    axes: "Axes",
    fingerprint: Fingerprint,
    classes: list[ClassStats],
    channel: int,
    normalization: ChannelNormalization,
) -> None:
    """A row for each class, its colour over the background's grey; each has its own height."""
    edges = np.array(fingerprint.histogram_edges[channel])
    background = fingerprint.background_histogram
    rows = [("background", LIGHT_GREY, background[channel])] if background else []
    for stats in classes:
        colour = colour_of(fingerprint.classes.index(stats))
        rows.append(
            (drawable(stats.name, f"class {stats.value}"), colour, stats.histogram[channel])
        )
    for place, (_, colour, histogram) in enumerate(rows):
        if background and place:
            _draw_row(axes, edges, place, background[channel], LIGHT_GREY)
        cut = _draw_row(axes, edges, place, histogram, colour)
        axes.axhline(place, color=LIGHT_GREY, linewidth=0.8, zorder=1)
        if cut:
            top = (edges[int(np.argmax(histogram))], place + PEAK)
            axes.annotate(f"{100 * max(histogram):.0f} % in one bin", top, fontsize=8,
                          xytext=(12, -9), textcoords="offset points")  # fmt: skip
    axes.set_yticks(np.arange(len(rows)) + PEAK / 3, [name for name, _, _ in rows])
    axes.set_ylim(0, len(rows))
    axes.set_xlabel("intensity")
    axes.xaxis.set_major_formatter(lambda value, _: plain_number(value))
    name = drawable(normalization.channel, f"channel {channel}")
    axes.set_title(f"{name}, normalised by {normalization.kind}", fontsize=11, pad=16)
    tidy(axes, "x")
    axes.tick_params(axis="y", length=0)
    _mark_percentiles(axes, normalization.statistics)


def _draw_row(
    axes: "Axes", edges: NDArray[np.float64], place: int, histogram: tuple[float, ...], colour: str
) -> bool:
    """One filled histogram; whether its highest bin was cut off so that the rest is seen."""
    heights = np.array(histogram)
    rest = np.sort(heights)[-2]
    cut = bool(heights.max() > SPIKE and rest > 0)
    top = rest if cut else max(heights.max(), 1e-12)
    drawn = place + PEAK * (heights / top).clip(max=1)
    axes.stairs(drawn, edges, baseline=place, fill=True, color=colour, alpha=0.75, zorder=2)
    return cut


def _mark_percentiles(axes: "Axes", statistics: IntensityStats) -> None:
    """Dashed lines where the foreground's lowest and highest half per cent end."""
    for value, text in (
        (statistics.percentile_00_5, "0.5 %"),
        (statistics.percentile_99_5, "99.5 %"),
    ):
        axes.axvline(value, color="black", linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        axes.text(value, 1.01, text, transform=axes.get_xaxis_transform(), fontsize=8,
                  ha="center", va="bottom")  # fmt: skip


def _draw_scans(axes: "Axes", fingerprint: Fingerprint, channel: int) -> None:
    """Each scan's foreground as a line from its 0.5 to its 99.5 percentile, by rising median."""
    from matplotlib.ticker import MaxNLocator

    stats = [case.intensity[channel] for case in fingerprint.cases if case.intensity is not None]
    stats.sort(key=lambda s: s.median)
    ranks = np.arange(1, len(stats) + 1)
    low = np.array([s.percentile_00_5 for s in stats])
    high = np.array([s.percentile_99_5 for s in stats])
    median = np.array([s.median for s in stats])
    width = float(np.clip(200 / len(stats), 0.6, 6))
    axes.vlines(ranks, low, high, color="#b8b8b8", linewidth=width, zorder=1)
    axes.scatter(ranks, median, s=min(14, 4 * width), color="black", linewidths=0, zorder=2)
    if median.min() > 0 and median.max() / median.min() > WIDE_APART:
        positive = low[low > 0].min(initial=median.min())
        use_log(axes, "y", positive / 1.5, high.max() * 1.5)
    axes.set_xlim(0, len(stats) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name = drawable(fingerprint.channel_names[channel], f"channel {channel}")
    axes.set_title(f"{name}, foreground of each scan", fontsize=11)
    axes.set(xlabel="scans, by rising median", ylabel="intensity")
    tidy(axes, "y")


def _draw_fractions(axes: "Axes", classes: list[ClassStats], colours: list[str]) -> None:
    percents = np.array([100 * c.image_fraction for c in classes])
    lowest = percents[percents > 0].min(initial=100.0)
    floor = 10 ** np.floor(np.log10(lowest) - 0.3)
    use_log(axes, "x", floor, max(percents.max(), floor) * 8)
    axes.barh(range(len(classes)), np.maximum(percents - floor, 0), left=floor, color=colours,
              height=0.6)  # fmt: skip
    for row, percent in enumerate(percents):
        text = f"{plain_number(float(percent))} %" if percent else "in no scan"
        axes.annotate(text, (max(percent, floor), row), xytext=(4, 0), va="center", fontsize=9,
                      textcoords="offset points")  # fmt: skip
    axes.set_title("Share of all voxels", fontsize=11)
    axes.set_xlabel("% (log scale)")


def _draw_volumes(axes: "Axes", classes: list[ClassStats], colours: list[str]) -> None:
    """Lines from the 5th to the 95th percentile of connected components, a dot at the median."""
    drawn = [(row, c) for row, c in enumerate(classes) if c.component_volume_mm3_median > 0]
    axes.set_title("Volume of connected components", fontsize=11)
    axes.set_xlabel("mm³ (log scale); 5th, 50th and 95th percentile")
    if not drawn:
        return
    lows = [c.component_volume_mm3_p05 for _, c in drawn]
    highs = [c.component_volume_mm3_p95 for _, c in drawn]
    for row, c in drawn:
        colour = colours[row]
        ends = (c.component_volume_mm3_p05, c.component_volume_mm3_p95)
        axes.plot(ends, (row, row), color=colour, linewidth=3, marker="|", markersize=10)
        axes.plot(c.component_volume_mm3_median, row, "o", color=colour, markersize=8,
                  markeredgecolor="black")  # fmt: skip
    use_log(axes, "x", min(lows) / 1.6, max(highs) * 1.6)


def _line_style(configuration: Configuration) -> Any:
    return (0, (3, 1.2)) if configuration.model.spatial_dims == 2 else "solid"


def _mark(label: str, **style: Any) -> "Line2D":
    """What a legend shows."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def _axes(configuration: Configuration) -> tuple[Any, ...]:
    return configuration.grid.orientation, configuration.grid.axis_order
