"""Slices of a scan with the outlines of its masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Spacing3
from autoseg.reporting.charts import colour_of, drawable, new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLICES = 4


@dataclass(frozen=True, slots=True)
class MosaicScan:
    """What a mosaic shows: a scan [z, y, x], its mask, and a reference mask if there is one."""

    title: str
    image: NDArray[np.float32]
    mask: NDArray[np.integer[Any]]
    reference: NDArray[np.integer[Any]] | None
    spacing_mm: Spacing3


def draw_mosaic(scan: MosaicScan, values: Sequence[int]) -> bytes:
    """A PNG of slices spread over the labelled part: the mask's outlines solid, reference dashed.

    Slices are taken across the coarsest axis; pixels have their true aspect ratio.
    """
    axis = int(np.argmax(scan.spacing_mm)) if scan.image.shape[0] > 1 else 0
    pixel_y, pixel_x = (mm for i, mm in enumerate(scan.spacing_mm) if i != axis)
    labelled = scan.mask > 0 if scan.reference is None else (scan.mask > 0) | (scan.reference > 0)
    indices = _spread(np.moveaxis(labelled, axis, 0))
    low, high = np.percentile(scan.image, (1, 99))
    figure = new_figure(2.6 * len(indices), 2.9)
    figure.suptitle(drawable(scan.title, "scan", limit=80), fontsize=10)
    for plot, index in zip(
        figure.subplots(1, len(indices), squeeze=False)[0], indices, strict=True
    ):
        plot.imshow(
            np.take(scan.image, index, axis),
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            aspect=pixel_y / pixel_x,
            origin="lower",
        )
        draw_outlines(plot, np.take(scan.mask, index, axis), values)
        if scan.reference is not None:
            draw_outlines(plot, np.take(scan.reference, index, axis), values, "dashed")
        plot.set_axis_off()
    return to_png(figure, dpi=90)


def draw_outlines(
    plot: "Axes",
    plane: NDArray[np.integer[Any]],
    values: Sequence[int],
    style: Literal["solid", "dashed"] = "solid",
) -> None:
    """Outline each label value of a slice in its colour, which its place in `values` gives."""
    if min(plane.shape) < 2:  # nothing to draw a line around
        return
    for order, value in enumerate(values):
        inside = plane == value
        if inside.any() and not inside.all():
            plot.contour(
                inside.astype(float),
                [0.5],
                colors=[colour_of(order)],
                linewidths=1.3,
                linestyles=[style],
            )


def _spread(labelled: NDArray[np.bool_]) -> list[int]:
    """Slice numbers spread evenly over those that hold labels; over all when none does."""
    occupied = np.flatnonzero(labelled.any(axis=(1, 2)))
    first, last = (occupied[0], occupied[-1]) if len(occupied) else (0, len(labelled) - 1)
    positions = np.linspace(first, last, SLICES + 2)[1:-1]
    return sorted({int(position) for position in positions.round()})
