"""The grid that scans are put on: all that prepared files depend on."""

from typing import Literal

from autoseg.geometry import Orientation, Shape3, Spacing3
from autoseg.inspection.statistics import IntensityStats
from autoseg.records import Record

NormalizationKind = Literal["ct", "zscore", "rescale_0_1", "rgb_0_1", "none"]


class ChannelNormalization(Record):
    """How one channel's intensities are normalised.

    `masked`: statistics come from inside the non-zero mask, and voxels outside stay 0. `statistics`
    are those of the training set's foreground, which `ct` normalises by.
    """

    channel: str
    kind: NormalizationKind
    masked: bool
    statistics: IntensityStats


class ResamplingPlan(Record):
    """Spline orders of resampling to the plan's grid and back.

    Where the largest spacing exceeds the smallest by more than `separate_axis_ratio`, the coarse
    axis is resampled on its own, to the nearest slice. A scan whose spacing is within
    `keep_within` (a fraction) of the target on every axis is not resampled at all.
    """

    image_order: Literal[0, 1, 3]
    label_order: Literal[0, 1]
    logits_order: Literal[0, 1]
    separate_axis_ratio: float
    keep_within: float = 0.0


class GridPlan(Record):
    """Axes, spacing and intensities of prepared scans.

    With two spatial dimensions the spacing has two entries, and the first axis keeps each scan's
    own.
    """

    orientation: Orientation
    axis_order: Shape3
    target_spacing_mm: tuple[float, ...]
    normalization: tuple[ChannelNormalization, ...]
    resampling: ResamplingPlan

    @property
    def spatial_dims(self) -> int:
        return len(self.target_spacing_mm)

    @property
    def masked_channels(self) -> tuple[int, ...]:
        """The channels that are 0 outside the body."""
        return tuple(i for i, channel in enumerate(self.normalization) if channel.masked)

    def spacing_mm(self, source_mm: Spacing3) -> Spacing3:
        """The spacing to resample a scan to, given its own along the plan's axes."""
        y, x = self.target_spacing_mm[-2:]
        return (source_mm[0] if self.spatial_dims == 2 else self.target_spacing_mm[0]), y, x
