"""What rules set: one typed record for each decision, and the table of all decisions.

A decision's settings are either its value itself (a loss, a schedule) or the constants of a search
written in Python (patch size, pooling), whose outcome then becomes the value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from autoseg.errors import AutosegError
from autoseg.geometry import Orientation
from autoseg.planning.grid_plan import NormalizationKind, ResamplingPlan
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.network_plan import NetworkName, Upsampling
from autoseg.planning.run_plan import BoxLossPlan, LossName, MatchingPlan, RandomRange, TrainingPlan
from autoseg.planning.topology import FinestStride, PoolingRule
from autoseg.records import Record

TaskName = Literal[
    "semantic", "distance", "flow", "mask_queries", "boxes", "solov2", "yolact"
]  # as the task's plan is called
ClassWeighting = Literal["none", "inverse_frequency", "median_frequency"]


class SpacingSettings(Record):
    """Target spacing: a percentile of the cases', another one on an axis that is far coarser."""

    percentile: float
    coarse_axis_ratio: float
    coarse_axis_percentile: float


class NormalizationSettings(Record):
    """How a channel is normalised."""

    kind: NormalizationKind


class NetworkSettings(Record):
    """The network's family and widths; its depth follows from the patch.

    Each family reads its own: `size` names one of those that were published, `residual` is the
    block of an FCN's encoder, `kernel_edge` that of MedNeXt's kernels, and DeepLab has an
    `output_stride` and `separable` convolutions. Masks of queries are `mask_stride` times as coarse
    as the patch; there are `queries_per_object` of a patch and `least_queries`, and as many
    detections of boxes. The finest features of SegFormer and DeepLab, and the stage from which on
    boxes are looked for, have a `finest_stride`; there are as few sizes of boxes for each place as
    give objects a mean best IoU of `anchor_overlap`, and `most_anchors` at most; they are found in
    so many `steps`, as by Cascade R-CNN, and with `point_rend` their masks are refined.
    """

    kind: NetworkName
    base_features: int
    max_features: int
    blocks: tuple[int, ...] = Field(min_length=1)  # by stage; the last entry is that of all below
    decoder_blocks: int
    bias: bool
    deep_supervision: bool
    upsampling: Upsampling = "transposed"
    squeeze_excitation: bool = False
    size: str | None = None
    residual: bool = False
    kernel_edge: Literal[3, 5] = 3
    output_stride: Literal[8, 16] = 16
    separable: bool = False
    mask_stride: int = Field(default=4, ge=1)
    least_queries: int = Field(default=100, ge=1)
    queries_per_object: float = Field(default=1.5, gt=0)
    finest_stride: FinestStride = 4
    most_anchors: int = Field(default=3, ge=1)
    anchor_overlap: float = Field(default=0.7, gt=0, le=1)
    steps: int = Field(default=1, ge=1, le=3)
    point_rend: bool = False

    def size_of(self, sizes: Iterable[str]) -> str:
        """The size, of those that there are. Raises AutosegError for another."""
        known = tuple(sizes)
        if self.size not in known:
            raise AutosegError(
                f"A rule gives the network {self.kind} the size {self.size}; it has "
                f"{', '.join(known)}. Change `size` in the rule."
            )
        return self.size


class PatchSettings(Record):
    """The patch search: where it starts, and the memory that its estimate is compared with.

    A network of `reference_elements` convolution outputs trains at `reference_batch` in
    `reference_memory_gib`; the patch is shrunk until a batch of `fitting_batch` fits, and until it
    has no more than `most_voxels`. The loss takes `loss_bytes` more for each voxel and output.
    """

    initial_volume_vox: int
    reference_elements: float
    reference_batch: int
    fitting_batch: int
    reference_memory_gib: float
    most_voxels: int | None = Field(default=None, ge=1)
    loss_bytes: float = 0.0


class MemorySettings(Record):
    """Memory to plan for: a fixed number of GiB, or a share of the GPU's, up to a limit."""

    fixed_gib: float | None = None
    gpu_fraction: float | None = None
    at_most_gib: float | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "MemorySettings":
        if self.fixed_gib is not None and self.gpu_fraction is not None:
            raise ValueError("give fixed_gib or gpu_fraction, not both")
        return self


class LowresSettings(Record):
    """When a coarser configuration would help, and the search for its spacing."""

    patch_fraction: float
    spacing_step: float = Field(gt=1)
    finer_axis_ratio: float
    smallest_voxel_ratio: float


class BatchSettings(Record):
    """How the batch uses memory, and its bounds in samples and as a share of the data set's voxels.

    `rest_of_memory` rounds what fits to the nearest number; `whole_patch` gives memory to the patch
    first: the batch exceeds the one that the patch was fitted with only where no shrinking was
    needed, and never what fits.
    """

    fill: Literal["rest_of_memory", "whole_patch"]
    minimum: int
    maximum: int | None = None
    max_dataset_fraction: float


class LossSettings(Record):
    """The loss and its constants, as in the plan's loss.

    Cross-entropy may weigh classes: by the inverse of how common they are, with a mean of 1, or by
    that of their frequency in the scans that have them, the median class weighing 1 (Eigen & Fergus
    2015, arXiv:1411.4734).
    """

    kind: LossName
    dice_smooth: float
    false_positive_weight: float = 0.5
    false_negative_weight: float = 0.5
    focal_gamma: float = 2.0
    top_k_fraction: float = 1.0
    boundary_weight: float = 0.0
    class_weighting: ClassWeighting = "none"
    matching: MatchingPlan | None = None
    boxes: BoxLossPlan | None = None


class AugmentationSettings(Record):
    """Probabilities and ranges of every transform, 3D and in-plane."""

    planar_ratio: float
    planar_rotation_degrees: RandomRange
    elongated_slice_ratio: float
    elongated_slice_rotation_degrees: RandomRange
    mirror_probability: float
    rotation_degrees: RandomRange
    scaling: RandomRange
    noise_std: RandomRange
    blur_sigma_vox: RandomRange
    brightness: RandomRange
    contrast: RandomRange
    low_resolution: RandomRange
    inverted_gamma: RandomRange
    gamma: RandomRange
    elastic_vox: RandomRange = RandomRange(probability=0, range=(0, 0))
    elastic_spacing_vox: float = Field(default=16.0, gt=0)
    mask_morphology_vox: RandomRange
    mask_component_loss_probability: float
    mask_component_loss_fraction: float


class InferenceSettings(Record):
    """The sliding window's step and Gaussian width, as fractions of the patch; and how wide things
    are at the least, as a share of the 5th percentile of those that were annotated."""

    step_fraction: float = Field(gt=0, le=1)
    gaussian_sigma_fraction: float = Field(gt=0)
    smallest_object: float = Field(default=0.0, ge=0)


S = TypeVar("S")

STANDS, MOOT = "stands", "moot"


@dataclass(frozen=True, slots=True)
class DecisionKind(Generic[S]):
    """A decision by name, the type of its settings, and whether it is made once for every item.

    `like` says what becomes of it when a plan is made like a model: it `STANDS` as the data's own;
    it is `MOOT`, since what it leads to is copied; or the path in a configuration of what is
    copied from the model.
    """

    name: str
    settings: Any  # the type S, which may be a literal or a tuple
    like: str
    for_each: Literal["channel"] | None = None


ORIENTATION: DecisionKind[Orientation] = DecisionKind(
    "orientation", Orientation, "grid.orientation"
)
TARGET_SPACING: DecisionKind[SpacingSettings] = DecisionKind(
    "target_spacing_mm", SpacingSettings, "grid.target_spacing_mm"
)
AXIS_ORDER: DecisionKind[Literal["coarsest_first", "as_is"]] = DecisionKind(
    "axis_order", Literal["coarsest_first", "as_is"], "grid.axis_order"
)
FOREGROUND_INTENSITY: DecisionKind[Literal["annotated", "with_ignore"]] = DecisionKind(
    "foreground_intensity", Literal["annotated", "with_ignore"], MOOT
)
NORMALIZATION: DecisionKind[NormalizationSettings] = DecisionKind(
    "normalization", NormalizationSettings, "grid.normalization", for_each="channel"
)
NORMALIZATION_MASK: DecisionKind[bool] = DecisionKind("normalization_mask", bool, MOOT)
RESAMPLING: DecisionKind[ResamplingPlan] = DecisionKind(
    "resampling", ResamplingPlan, "grid.resampling"
)
MEMORY: DecisionKind[MemorySettings] = DecisionKind("memory_gib", MemorySettings, MOOT)
NETWORK: DecisionKind[NetworkSettings] = DecisionKind("network", NetworkSettings, "model.network")
POOLING: DecisionKind[PoolingRule] = DecisionKind("pooling", PoolingRule, MOOT)
PATCH_SIZE: DecisionKind[PatchSettings] = DecisionKind(
    "patch_size_vox", PatchSettings, "model.patch_size_vox"
)
LOWRES_SPACING: DecisionKind[LowresSettings] = DecisionKind(
    "lowres_spacing_mm", LowresSettings, MOOT
)
BATCH_SIZE: DecisionKind[BatchSettings] = DecisionKind(
    "batch_size", BatchSettings, "run.batch_size"
)
TASK: DecisionKind[TaskName] = DecisionKind("task", TaskName, STANDS)
LOSS: DecisionKind[LossSettings] = DecisionKind("loss", LossSettings, STANDS)
BATCH_DICE: DecisionKind[bool] = DecisionKind("batch_dice", bool, STANDS)
MIRROR_AXES: DecisionKind[Literal["all", "not_left_right", "none"]] = DecisionKind(
    "mirror_axes", Literal["all", "not_left_right", "none"], MOOT
)
AUGMENTATION: DecisionKind[AugmentationSettings] = DecisionKind(
    "augmentation", AugmentationSettings, "run.augmentation"
)
TRAINING: DecisionKind[TrainingPlan] = DecisionKind("training", TrainingPlan, STANDS)
INFERENCE: DecisionKind[InferenceSettings] = DecisionKind(
    "inference", InferenceSettings, "inference"
)
RECOMMENDED: DecisionKind[tuple[ConfigurationName, ...]] = DecisionKind(
    "recommended", tuple[ConfigurationName, ...], STANDS
)

ALL_KINDS: tuple[DecisionKind[Any], ...] = (
    ORIENTATION, TARGET_SPACING, AXIS_ORDER, FOREGROUND_INTENSITY, NORMALIZATION,
    NORMALIZATION_MASK, RESAMPLING, MEMORY, NETWORK, POOLING, PATCH_SIZE, LOWRES_SPACING,
    BATCH_SIZE, TASK, LOSS, BATCH_DICE, MIRROR_AXES, AUGMENTATION, TRAINING, INFERENCE, RECOMMENDED,
)  # fmt: skip
DECISIONS: dict[str, DecisionKind[Any]] = {kind.name: kind for kind in ALL_KINDS}
