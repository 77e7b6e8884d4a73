"""What rules set: one typed record for each decision, and the table of all decisions.

A decision's settings are either its value itself (a loss, a schedule) or the constants of a search
written in Python (patch size, pooling), whose outcome then becomes the value.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from autoseg.geometry import Orientation
from autoseg.planning.plan import (
    ConfigurationName,
    LossName,
    NetworkName,
    NormalizationKind,
    RandomRange,
    ResamplingPlan,
    TrainingPlan,
    Upsampling,
)
from autoseg.planning.topology import PoolingRule
from autoseg.records import Record

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
    """The network's family and widths; its depth follows from the patch."""

    kind: NetworkName
    base_features: int
    max_features: int
    blocks: tuple[int, ...] = Field(min_length=1)  # by stage; the last entry is that of all below
    decoder_blocks: int
    bias: bool
    deep_supervision: bool
    upsampling: Upsampling = "transposed"
    squeeze_excitation: bool = False


class PatchSettings(Record):
    """The patch search: where it starts, and the memory that its estimate is compared with.

    A network of `reference_elements` convolution outputs trains at `reference_batch` in
    `reference_memory_gib`; the patch is shrunk until a batch of `fitting_batch` fits.
    """

    initial_volume_vox: int
    reference_elements: float
    reference_batch: int
    fitting_batch: int
    reference_memory_gib: float


class MemorySettings(Record):
    """Memory to plan for: a fixed number of GiB, or a share of the GPU's."""

    fixed_gib: float | None = None
    gpu_fraction: float | None = None


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
    """The sliding window's step and Gaussian width, as fractions of the patch."""

    step_fraction: float = Field(gt=0, le=1)
    gaussian_sigma_fraction: float = Field(gt=0)


@dataclass(frozen=True, slots=True)
class DecisionKind:
    """What type a decision's settings have, and whether it is made once for every item."""

    settings: Any
    for_each: Literal["channel"] | None = None


DECISIONS: dict[str, DecisionKind] = {
    "orientation": DecisionKind(Orientation),
    "target_spacing_mm": DecisionKind(SpacingSettings),
    "axis_order": DecisionKind(Literal["coarsest_first", "as_is"]),
    "foreground_intensity": DecisionKind(Literal["annotated", "with_ignore"]),
    "normalization": DecisionKind(NormalizationSettings, for_each="channel"),
    "normalization_mask": DecisionKind(bool),
    "resampling": DecisionKind(ResamplingPlan),
    "memory_gib": DecisionKind(MemorySettings),
    "network": DecisionKind(NetworkSettings),
    "pooling": DecisionKind(PoolingRule),
    "patch_size_vox": DecisionKind(PatchSettings),
    "lowres_spacing_mm": DecisionKind(LowresSettings),
    "batch_size": DecisionKind(BatchSettings),
    "loss": DecisionKind(LossSettings),
    "batch_dice": DecisionKind(bool),
    "mirror_axes": DecisionKind(Literal["all", "not_left_right", "none"]),
    "augmentation": DecisionKind(AugmentationSettings),
    "training": DecisionKind(TrainingPlan),
    "inference": DecisionKind(InferenceSettings),
    "recommended": DecisionKind(tuple[ConfigurationName, ...]),
}
