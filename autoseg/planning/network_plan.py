"""What networks are: one record for each family, told apart by `kind`.

A family's record is found by `kind` in FAMILY_PLANS; networks of other packages share the U-Nets'.
All records know `deep_supervision` and their `levels`, which describe them to people.
"""

from math import prod
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, WrapValidator, model_validator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from autoseg.extensions import extension_names
from autoseg.planning.box_network_plan import BoxNetworkPlan as BoxNetworkPlan
from autoseg.planning.one_stage_plan import OneStagePlan as OneStagePlan
from autoseg.planning.one_stage_plan import SoloPlan as SoloPlan
from autoseg.planning.one_stage_plan import YolactPlan as YolactPlan
from autoseg.planning.stage_plan import PerAxis as PerAxis
from autoseg.planning.stage_plan import StagePlan as StagePlan
from autoseg.planning.stage_plan import stride_of
from autoseg.records import Record

Upsampling = Literal["transposed", "interpolated", "subpixel"]
NetworkKind = Literal[
    "plain_unet", "residual_unet", "fcn", "deeplabv3plus", "segformer", "mednext", "mask_queries",
    "mask_rcnn", "solov2", "yolact",
]  # fmt: skip
SQUEEZE_REDUCTION = 16  # features that squeeze and excitation makes one of
BUILT_IN_NETWORKS: tuple[str, ...] = get_args(NetworkKind)


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

    `skips` stages above the lowest have scores too: in the paper none in FCN-32s, one in 16s, two
    in 8s.
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
    found so far, or, without masks, at the lowest stage as a whole. Queries are learned, as
    published, or each begins as what lies in one of the `cells` of a grid over the patch.
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
    cells: tuple[Annotated[int, Field(ge=1)], ...] = ()
    deep_supervision: Literal[True] = True

    @model_validator(mode="after")
    def _has_a_query_in_each_cell(self) -> "QueryNetworkPlan":
        axes = len(self.stages[0].stride)
        if self.cells and (len(self.cells), prod(self.cells)) != (axes, self.queries):
            raise ValueError(f"cells must be {axes} numbers whose product is that of queries.")
        return self

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages

    @property
    def mask_stride(self) -> PerAxis:
        """Voxels of the patch that one of a mask stands for, per axis."""
        return stride_of(self.stages[: self.mask_level + 1])


FAMILY_PLANS: dict[str, type[Record]] = {
    "fcn": FCNPlan,
    "deeplabv3plus": DeepLabPlan,
    "segformer": SegFormerPlan,
    "mednext": MedNeXtPlan,
    "mask_queries": QueryNetworkPlan,
    "mask_rcnn": BoxNetworkPlan,
    "solov2": SoloPlan,
    "yolact": YolactPlan,
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
    | BoxNetworkPlan
    | SoloPlan
    | YolactPlan,
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
