"""Networks that find boxes: what they are made of, and what they look for objects with."""

from typing import Literal

from pydantic import Field

from autoseg.planning.stage_plan import PerAxis, StagePlan, stride_of
from autoseg.records import Record


class AnchorLevel(Record):
    """Sizes of the boxes that objects are looked for with, about every place of a stage."""

    stage: int = Field(ge=0)
    sizes_vox: tuple[tuple[float, ...], ...] = Field(min_length=1)


class BoxNetworkPlan(Record):
    """Mask R-CNN: an encoder and a feature pyramid; boxes that may hold an object, proposed about
    every place; of these a class, a better box and a mask.

    `anchors` are of stages one below another, all with as many sizes, and the pyramid begins with
    the first of them. Of the `considered` likeliest boxes `proposals` are looked at, and of these
    `detections` have masks; a box that overlaps a surer one by more than an IoU of
    `proposal_overlap`, or in the end of `detection_overlap`, comes last. Regions are divided into
    `box_bins` and `mask_bins` (masks are twice as fine), each sampled at so many `samples` an axis,
    or at as many as it is wide. Each of several `steps`, as in Cascade R-CNN, looks at the boxes of
    the one before it. With `points` masks are refined at so many places, as in PointRend, in so
    many `subdivisions`. A further branch, as in Panoptic FPN, tells `dense_classes` apart, if there
    are any: the background, and those of no things. Masks are given `mask_stride` times as coarse
    as the patch.
    """

    kind: Literal["mask_rcnn"] = "mask_rcnn"
    stages: tuple[StagePlan, ...]
    block: Literal["plain", "residual"]
    bias: bool
    features: int
    anchors: tuple[AnchorLevel, ...] = Field(min_length=1)
    considered: int = Field(ge=1)
    proposals: int = Field(ge=1)
    detections: int = Field(ge=1)
    proposal_overlap: float = Field(default=0.7, gt=0, le=1)
    detection_overlap: float = Field(default=0.5, gt=0, le=1)
    box_bins: PerAxis
    box_hidden: int
    mask_bins: PerAxis
    mask_layers: int
    samples: int | None = Field(default=None, ge=1)
    steps: int = Field(default=1, ge=1, le=3)
    points: int = Field(default=0, ge=0)
    point_hidden: int = Field(default=256, ge=1)
    subdivisions: int = Field(default=0, ge=0)
    dense_classes: tuple[int, ...] = ()
    mask_stride: PerAxis
    deep_supervision: Literal[True] = True

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages

    @property
    def strides(self) -> tuple[PerAxis, ...]:
        """Voxels of the patch that one of each stage stands for, per axis."""
        return tuple(stride_of(self.stages[: index + 1]) for index in range(len(self.stages)))
