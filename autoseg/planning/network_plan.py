"""What networks are: one record for each family, told apart by `kind`.

A family's record is found by `kind` in FAMILY_PLANS; networks of other packages share the U-Nets'.
All records know `deep_supervision` and their `levels`, which describe them to people.
"""

from math import prod
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from autoseg.extensions import extension_names
from autoseg.records import Record

Upsampling = Literal["transposed", "interpolated", "subpixel"]
NetworkKind = Literal[
    "plain_unet", "residual_unet", "fcn", "deeplabv3plus", "segformer", "mednext", "mask_queries",
    "mask_rcnn",
]  # fmt: skip
SQUEEZE_REDUCTION = 16  # features that squeeze and excitation makes one of
BUILT_IN_NETWORKS: tuple[str, ...] = get_args(NetworkKind)
PerAxis = tuple[int, ...]


def one_of(name: str, built_in: tuple[str, ...], installed: tuple[str, ...]) -> str:
    """The name, if it is built in or installed. Raises ValueError with those that are."""
    if name not in (*built_in, *installed):
        raise ValueError(f"{name!r} is none of {', '.join((*built_in, *installed))}")
    return name


def _known_network(name: str) -> str:
    if name in BUILT_IN_NETWORKS:  # else nothing that is installed is looked at
        return name
    return one_of(name, BUILT_IN_NETWORKS, extension_names("autoseg.networks"))


NetworkName = Annotated[str, AfterValidator(_known_network)]


class StagePlan(Record):
    """One resolution of the network; `stride` leads into it. The lowest has no decoder."""

    features: int
    kernel_size: PerAxis
    stride: PerAxis
    blocks: int
    decoder_blocks: int


class UNetPlan(Record):
    """A U-Net, highest resolution first; a block is a convolution, or a residual pair of them.

    `squeeze_excitation` weighs the features of every block of the encoder by what the whole patch
    holds. Networks of other packages, whose name is then the `kind`, are given the same plan.
    """

    kind: NetworkName
    stages: tuple[StagePlan, ...]
    norm: Literal["instance"]
    activation: Literal["leaky_relu"]
    bias: bool
    upsampling: Upsampling
    deep_supervision: bool
    squeeze_excitation: bool = False

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages


class FCNPlan(Record):
    """A fully convolutional network: an encoder, and scores of its lowest stages, summed.

    `skips` stages above the lowest have scores too: none in FCN-32s, one in 16s, two in 8s.
    """

    kind: Literal["fcn"] = "fcn"
    stages: tuple[StagePlan, ...]
    block: Literal["plain", "residual"]
    skips: int = Field(ge=0)
    bias: bool
    deep_supervision: Literal[False] = False

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages


ResNetDepth = Literal[18, 34, 50]


class DilatedStage(StagePlan):
    """A stage whose kernels leave out voxels, where a stride would lose too much resolution."""

    dilation: PerAxis


class DeepLabPlan(Record):
    """DeepLabV3+: a ResNet that keeps resolution by dilation, an atrous pyramid, a light decoder.

    Of the `stages`, in order: the stem's convolution, its pooling with the first layer, and three
    more layers. `rates` are those of the pyramid's dilated convolutions. `low_level` is the stage
    that the decoder looks back at.
    """

    kind: Literal["deeplabv3plus"] = "deeplabv3plus"
    depth: ResNetDepth
    stages: tuple[DilatedStage, ...] = Field(min_length=5, max_length=5)
    low_level: int = Field(ge=0, le=3)
    rates: tuple[PerAxis, ...]
    pyramid_features: int
    low_level_features: int
    separable: bool
    dropout: float = Field(ge=0, lt=1)
    deep_supervision: Literal[False] = False

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages


class TransformerStage(StagePlan):
    """Overlapping patches of `kernel_size` and `stride`, then blocks with attention.

    Keys and values of the attention are `reduction` times as coarse as its queries, per axis.
    """

    heads: int
    reduction: PerAxis


class SegFormerPlan(Record):
    """SegFormer: a mix transformer, and a decoder that mixes what it sees at all resolutions.

    `mlp_ratio` widens features between the two layers of a mix-FFN; whole blocks are left out at
    random with a probability that rises to `drop_path` in the last.
    """

    kind: Literal["segformer"] = "segformer"
    stages: tuple[TransformerStage, ...]
    mlp_ratio: int
    decoder_features: int
    drop_path: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    deep_supervision: Literal[False] = False

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages


class MedNeXtStage(StagePlan):
    """A stage of inverted bottlenecks, as many times wider inside as the expansions say."""

    expansion: int
    decoder_expansion: int


class MedNeXtPlan(Record):
    """MedNeXt: a U-Net of depthwise convolutions and inverted bottlenecks."""

    kind: Literal["mednext"] = "mednext"
    stages: tuple[MedNeXtStage, ...]
    deep_supervision: bool

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages


class QueryNetworkPlan(Record):
    """Mask2Former or MaskFormer: a residual encoder, a pixel decoder, and queries that each find
    one mask and its class.

    The pixel decoder has `features`; of its `pixel_layers`, if it is deformable, each samples
    `sampled_points` at the `attended` lowest stages, and an FPN leads up to stage `mask_level`,
    where masks lie. `query_layers` look at the attended stages in turn, within the mask that was
    found so far, or, without masks, at the lowest stage as a whole.
    """

    kind: Literal["mask_queries"] = "mask_queries"
    stages: tuple[StagePlan, ...]
    bias: bool
    mask_level: int = Field(ge=0)
    attended: int = Field(ge=1)
    pixel_decoder: Literal["deformable", "fpn"]
    attention: Literal["masked", "full"]
    features: int
    heads: int
    pixel_layers: int
    pixel_hidden: int
    sampled_points: int
    queries: int = Field(ge=1)
    query_layers: int
    query_hidden: int
    deep_supervision: Literal[True] = True

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages

    @property
    def mask_stride(self) -> PerAxis:
        """Voxels of the patch that one of a mask stands for, per axis."""
        strides = [stage.stride for stage in self.stages[: self.mask_level + 1]]
        return tuple(prod(along) for along in zip(*strides, strict=True))


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
    many `subdivisions`. `panoptic`: a further branch tells every voxel apart. Masks are given
    `mask_stride` times as coarse as the patch.
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
    panoptic: bool = False
    mask_stride: PerAxis
    deep_supervision: Literal[True] = True

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages

    @property
    def strides(self) -> tuple[PerAxis, ...]:
        """Voxels of the patch that one of each stage stands for, per axis."""
        strides = [stage.stride for stage in self.stages]
        return tuple(
            tuple(prod(along) for along in zip(*strides[: index + 1], strict=True))
            for index in range(len(strides))
        )


FAMILY_PLANS: dict[str, type[Record]] = {
    "fcn": FCNPlan,
    "deeplabv3plus": DeepLabPlan,
    "segformer": SegFormerPlan,
    "mednext": MedNeXtPlan,
    "mask_queries": QueryNetworkPlan,
    "mask_rcnn": BoxNetworkPlan,
}


def plan_record(kind: object) -> type[Record]:
    """The record of a kind of network; that of U-Nets for those of other packages."""
    return FAMILY_PLANS.get(str(kind), UNetPlan)


def _of_its_kind(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    # Not a union that pydantic tells apart: its messages would name members besides the place.
    if isinstance(given, dict):
        return plan_record(given.get("kind")).model_validate(given)
    return handler(given)


NetworkPlan = Annotated[
    UNetPlan
    | FCNPlan
    | DeepLabPlan
    | SegFormerPlan
    | MedNeXtPlan
    | QueryNetworkPlan
    | BoxNetworkPlan,
    WrapValidator(_of_its_kind),
]


def network_in_words(plan: NetworkPlan) -> str:
    """Kind, depth and widths of a network, for one line."""
    levels = plan.levels
    return (
        f"{plan.kind} of {len(levels)} stages with {levels[0].features} to "
        f"{levels[-1].features} features"
    )


def unet_plan(plan: NetworkPlan) -> UNetPlan:
    """The plan, of which it is known that it is a U-Net's."""
    assert isinstance(plan, UNetPlan), plan.kind
    return plan
