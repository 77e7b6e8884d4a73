"""Where a mask came from, and what should be looked at with care."""

import numpy as np

from autoseg.checkpoint import ModelCard
from autoseg.device import Precision
from autoseg.geometry import Placement
from autoseg.images.volume import Volume
from autoseg.inference.engines import EngineName
from autoseg.postprocessing.quality import MaskQuality
from autoseg.records import Record

SPACING_RATIO_WARNED = 2.0  # against the plan's target spacing
SHARE_EXPECTED = 0.001  # of a scan's voxels, within the training set's range of the foreground
ABSOLUTE_KINDS = ("ct", "none")  # normalisations that take intensities as they are


class Provenance(Record):
    """Where a mask came from, and how good it is likely to be, where that is known."""

    case_id: str
    scan: str  # blake2b of the scan's voxels
    models: tuple[str, ...]  # blake2b of each model file
    autoseg_version: str
    engine: EngineName
    device: str  # cpu, or a GPU such as gpu:0
    precision: Precision
    mirror_axes: tuple[int, ...]
    postprocessing: tuple[str, ...] = ()  # steps that changed the mask
    quality: MaskQuality | None = None
    # of several models of a configuration that were compared: by class, the mean share of those
    # that decide otherwise within its mask
    disagreement: dict[str, float] | None = None
    warnings: tuple[str, ...]


def scan_warnings(scan: Volume, card: ModelCard, placement: Placement) -> tuple[str, ...]:
    """What of a scan is far from what a model was trained on."""
    return (
        *_shape_warnings(scan, card),
        *_spacing_warnings(placement),
        *_intensity_warnings(scan, card),
    )


def _shape_warnings(scan: Volume, card: ModelCard) -> tuple[str, ...]:
    configuration = card.configuration
    if configuration.model.spatial_dims == 2 or 1 not in scan.grid.shape_vox:
        return ()
    if 1 in configuration.inference.median_shape_vox:
        return ()
    return ("is a single slice, but the model was trained on volumes; check the mask with care",)


def _spacing_warnings(placement: Placement) -> tuple[str, ...]:
    pairs = list(zip(placement.source_spacing_mm, placement.target_spacing_mm, strict=True))
    if all(max(a / b, b / a) <= SPACING_RATIO_WARNED for a, b in pairs):
        return ()
    found = " x ".join(f"{a:.3g}" for a, _ in pairs)
    trained = " x ".join(f"{b:.3g}" for _, b in pairs)
    return (
        f"spacing {found} mm is more than {SPACING_RATIO_WARNED:g} times off the {trained} mm that "
        "the model was trained at; check the mask with care",
    )


def _intensity_warnings(scan: Volume, card: ModelCard) -> tuple[str, ...]:
    """Channels that hold one value only, or hardly anything in the range of the trained targets."""
    found = []
    for channel, plan in zip(scan.array, card.configuration.grid.normalization, strict=True):
        low, high = float(channel.min()), float(channel.max())
        if low == high:
            found.append(f"channel {plan.channel} holds nothing but the value {low:g}")
            continue
        expected = (plan.statistics.percentile_00_5, plan.statistics.percentile_99_5)
        if plan.kind not in ABSOLUTE_KINDS or expected[0] >= expected[1]:
            continue
        inside = np.count_nonzero((channel >= expected[0]) & (channel <= expected[1]))
        if inside < SHARE_EXPECTED * channel.size:
            found.append(
                f"channel {plan.channel} has values from {low:.4g} to {high:.4g}, of which "
                f"{inside / channel.size:.2%} lie between {expected[0]:.4g} and {expected[1]:.4g} "
                "as those of the trained targets do; check its units, and the mask"
            )
    return tuple(found)
