"""Slices of a scan with the outlines of its masks."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Spacing3

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45")
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axis = int(np.argmax(scan.spacing_mm)) if scan.image.shape[0] > 1 else 0
    pixel_y, pixel_x = (mm for i, mm in enumerate(scan.spacing_mm) if i != axis)
    labelled = scan.mask > 0 if scan.reference is None else (scan.mask > 0) | (scan.reference > 0)
    indices = _spread(np.moveaxis(labelled, axis, 0))
    low, high = np.percentile(scan.image, (1, 99))
    figure = Figure(figsize=(2.6 * len(indices), 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(scan.title, fontsize=10)
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
        for labels, style in ((scan.mask, "solid"), (scan.reference, "dashed")):
            if labels is None:
                continue
            plane = np.take(labels, index, axis)
            for order, value in enumerate(values):
                if (plane == value).any() and not (plane == value).all():
                    colour = COLOURS[order % len(COLOURS)]
                    inside = (plane == value).astype(float)
                    plot.contour(inside, [0.5], colors=[colour], linewidths=1, linestyles=[style])
        plot.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, format="png")
    return buffer.getvalue()


def _spread(labelled: NDArray[np.bool_]) -> list[int]:
    """Slice numbers spread evenly over those that hold labels; over all when none does."""
    occupied = np.flatnonzero(labelled.any(axis=(1, 2)))
    first, last = (occupied[0], occupied[-1]) if len(occupied) else (0, len(labelled) - 1)
    positions = np.linspace(first, last, SLICES + 2)[1:-1]
    return sorted({int(position) for position in positions.round()})
