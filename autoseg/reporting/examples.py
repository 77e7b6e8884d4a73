"""Example slices of a dataset: small, median and large foreground, outlined class by class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.dataset.reading import read_case
from autoseg.images.volume import Volume
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.inspection.statistics import CaseStats
from autoseg.planning.grid_plan import ChannelNormalization
from autoseg.reporting.charts import (
    COLOURS,
    WIDTH_IN,
    colour_of,
    drawable,
    new_figure,
    to_png,
)
from autoseg.reporting.viewing import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANNELS_DRAWN = 4
WINDOW_PERCENTILES = (0.5, 99.5)
TALLEST = 1.2  # slices higher than this times their width are drawn smaller
TITLE_IN = 0.6
BAR_FRACTION = 0.3  # of the slice's width, at most
BAR_STEPS = (1, 2, 5, 10, 20, 50, 100, 200)  # mm


@dataclass(frozen=True, slots=True)
class ExampleSlice:
    """A slice of a scan as it is looked at, row 0 at the top, and what makes it an example.

    `edges` are the anatomical directions at its left and its top; None for a picture, whose
    `pixel_mm` (row, column) say nothing either.
    """

    case_id: str
    why: str
    where: str
    image: NDArray[np.float32]  # [channel, row, column]
    classes: NDArray[np.uint8]  # [row, column]
    pixel_mm: tuple[float, float]
    edges: tuple[str, str] | None


def example_scans(dataset: Dataset, fingerprint: Fingerprint) -> tuple[ExampleSlice, ...]:
    """The slices with most foreground of the scans with the least, median and most of it.

    There are fewer than three where fewer scans have any. Raises AutosegError when one of their
    files cannot be read any more.
    """
    cases = {case.case_id: case for case in dataset.cases}
    scheme = fingerprint.labels
    stats = [s for s in fingerprint.cases if s.case_id in cases and _foreground(s, scheme)]
    stats.sort(key=lambda s: (_foreground(s, scheme), s.case_id))
    if not stats:
        return ()
    chosen = {len(stats) // 2: "median"} | {0: "least", len(stats) - 1: "most"}
    examples = []
    for place, why in sorted(chosen.items()):
        image, label = read_case(cases[stats[place].case_id])
        classes = scheme.encode(label.array, label.grid.spacing_mm)
        amount = _amount(stats[place], scheme)
        reason = f"{why} foreground: {amount}" if len(stats) > 1 else f"foreground: {amount}"
        examples.append(_cut(stats[place], reason, image, classes))
    return tuple(examples)


def draw_examples(
    examples: tuple[ExampleSlice, ...],
    channels: tuple[ChannelNormalization, ...],
    scheme: LabelScheme,
) -> bytes:
    """A PNG of each slice without and with outlines of its classes.

    With one channel, or colours, slices stand side by side; otherwise each is a row of channels.
    """
    in_colour = len(channels) == 3 and all(c.kind == "rgb_0_1" for c in channels)
    shown = channels[:1] if in_colour else channels[:CHANNELS_DRAWN]
    figure, panels = _lay_out(examples, len(shown) + 1)
    for example, row in zip(examples, panels, strict=False):
        for place, plot in enumerate(row):
            channel = max(0, place - 1)  # the first one is shown twice: bare, then outlined
            _show(plot, example, None if in_colour else channel, shown[channel])
            if place:
                _outline(plot, example.classes, scheme)
                _number_classes(plot, example.classes, scheme)
            if place and len(shown) > 1:
                plot.set_title(drawable(shown[channel].channel, f"channel {channel}"), fontsize=9)
        _name(row[0], example)
    return to_png(figure)


def visible_classes(examples: tuple[ExampleSlice, ...]) -> list[int]:
    """The indices of the classes that the slices show."""
    found = {int(value) for example in examples for value in np.unique(example.classes)}
    return sorted(found - {0, IGNORED})


def _lay_out(examples: tuple[ExampleSlice, ...], panel_count: int) -> tuple["Figure", NDArray[Any]]:
    """A figure and its empty panels [example, panel]: columns, or rows if there are more."""
    columns = max(3, panel_count)
    heights = [
        WIDTH_IN / columns * min(_height_to_width(example), TALLEST) + TITLE_IN
        for example in examples
    ]
    if panel_count == 2 and len(examples) > 1:
        figure = new_figure(WIDTH_IN, 2 * max(heights) - TITLE_IN / 2)
        panels = figure.subplots(2, columns, squeeze=False).T
    else:
        figure = new_figure(WIDTH_IN, sum(heights))
        panels = figure.subplots(len(examples), columns, squeeze=False, height_ratios=heights)
    for panel in panels.flat:
        panel.set_axis_off()
        panel.set_anchor("N")
    return figure, panels[:, :panel_count]


def _foreground(stats: CaseStats, scheme: LabelScheme) -> float:
    """How much foreground a scan has in mm³; of a single slice in mm²."""
    voxels = sum(stats.label_voxels.get(value, 0) for value in scheme.values[1:])
    return voxels * float(np.prod(_tissue_mm(stats)))


def _amount(stats: CaseStats, scheme: LabelScheme) -> str:
    if 1 in stats.shape_vox:
        return f"{sum(stats.label_voxels.get(v, 0) for v in scheme.values[1:]):,} pixels"
    return f"{_foreground(stats, scheme) / 1000:.3g} mL"


def _tissue_mm(stats: CaseStats) -> list[float]:
    """The spacing, without that across a single slice, which nobody knows."""
    sizes = zip(stats.spacing_mm, stats.shape_vox, strict=True)
    return [1.0 if size == 1 else mm for mm, size in sizes]


def _cut(stats: CaseStats, why: str, image: Volume, classes: NDArray[np.uint8]) -> ExampleSlice:
    """The slice with most foreground."""
    view = view_of(image.grid)
    turned = view.slices(classes)  # [slice, row, column]
    counts = ((turned > 0) & (turned != IGNORED)).sum(axis=(1, 2))
    index = int(np.argmax(counts))
    return ExampleSlice(
        case_id=stats.case_id,
        why=why,
        where="" if len(turned) == 1 else f"slice {index + 1} of {len(turned)}",
        image=np.ascontiguousarray(view.slices(image.array)[:, index]),
        classes=np.ascontiguousarray(turned[index]),
        pixel_mm=view.pixel_mm,
        edges=view.edges,
    )


def _show(
    plot: "Axes", example: ExampleSlice, channel: int | None, normalization: ChannelNormalization
) -> None:
    """A channel in grey, or all three as colours; CT in the window that the network sees."""
    image: NDArray[Any]
    if channel is None:
        top = max(255.0, float(example.image.max()))
        image, low, high = np.moveaxis(example.image, 0, -1) / top, 0.0, 1.0
    else:
        image = example.image[channel]
        low, high = np.percentile(image, WINDOW_PERCENTILES)
        if normalization.kind == "ct":
            low = normalization.statistics.percentile_00_5
            high = normalization.statistics.percentile_99_5
    pixel_y, pixel_x = example.pixel_mm
    plot.imshow(
        image.clip(0) if channel is None else image,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-6),
        aspect=pixel_y / pixel_x,
    )


def _name(plot: "Axes", example: ExampleSlice) -> None:
    """Title, directions and a scale bar for the first panel of a scan."""
    case_id = drawable(example.case_id, "scan")
    first = f"{case_id}, {example.where}" if example.where else case_id
    plot.set_title(f"{first}\n{example.why}", fontsize=9, loc="left")
    if example.edges is None:
        return
    left, top = example.edges
    _write(plot, (0.03, 0.5), left, transform=plot.transAxes)
    _write(plot, (0.5, 0.96), top, transform=plot.transAxes)
    width_mm = example.classes.shape[1] * example.pixel_mm[1]
    bar_mm = max((mm for mm in BAR_STEPS if mm <= BAR_FRACTION * width_mm), default=0)
    if bar_mm:
        ends = (0.04, 0.04 + bar_mm / width_mm)
        plot.plot(ends, (0.04, 0.04), lw=3, color="white", transform=plot.transAxes)
        _write(plot, (0.04, 0.09), f"{bar_mm} mm", ha="left", transform=plot.transAxes)


def _outline(plot: "Axes", classes: NDArray[np.uint8], scheme: LabelScheme) -> None:
    """A line around each class in its colour."""
    if min(classes.shape) < 2:  # nothing to draw a line around
        return
    for index in range(1, len(scheme.values)):
        inside = classes == index
        if inside.any() and not inside.all():
            plot.contour(inside.astype(float), [0.5], colors=[colour_of(index - 1)], linewidths=1.3)


def _number_classes(plot: "Axes", classes: NDArray[np.uint8], scheme: LabelScheme) -> None:
    """Write label values into the slice where colours repeat."""
    if len(scheme.values) - 1 <= len(COLOURS):
        return
    for index in set(np.unique(classes).tolist()) - {0, IGNORED}:
        rows, columns = np.nonzero(classes == index)
        middle = len(rows) // 2  # of the list, so it is a pixel of the class
        _write(plot, (columns[middle], rows[middle]), str(scheme.values[index]), fontsize=7)


def _write(plot: "Axes", position: tuple[float, float], text: str, **style: Any) -> None:
    """White text that stays readable on white."""
    from matplotlib.patheffects import withStroke

    shadow = [withStroke(linewidth=1.5, foreground="black")]
    usual = {"color": "white", "path_effects": shadow, "ha": "center", "va": "center"}
    looks: dict[str, Any] = {"fontsize": 9} | usual | style
    plot.text(*position, text, **looks)


def _height_to_width(example: ExampleSlice) -> float:
    rows, columns = example.classes.shape
    return float(rows * example.pixel_mm[0] / (columns * example.pixel_mm[1]))
