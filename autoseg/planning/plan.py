"""Plans: everything that preparing, training and predicting will do, and why.

Sizes and spacings follow the plan's axis order: reoriented, then permuted by `axis_order`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from autoseg.dataset.dataset import LabelScheme
from autoseg.errors import AutosegError
from autoseg.extensions import Group, extension_names
from autoseg.geometry import Orientation, Shape3, Spacing3
from autoseg.inspection.statistics import IntensityStats
from autoseg.machine import Machine
from autoseg.records import Record

ConfigurationName = Literal["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
NormalizationKind = Literal["ct", "zscore", "rescale_0_1", "rgb_0_1", "none"]
NetworkKind = Literal["plain_unet", "residual_unet"]
LossKind = Literal["ce_dice", "ce_tversky", "topk_dice", "focal_dice", "focal_tversky"]
Form = Literal["eager", "channels_last", "compiled"]
Upsampling = Literal["transposed", "interpolated", "subpixel"]
Range = tuple[float, float]


def _known(built_in: Any, group: Group) -> AfterValidator:
    """Checks that a name is built in, or an installed package's."""

    def check(name: str) -> str:
        if name not in get_args(built_in):  # else nothing that is installed is looked at
            known = (*get_args(built_in), *extension_names(group))
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(known)}")
        return name

    return AfterValidator(check)


NetworkName = Annotated[str, _known(NetworkKind, "autoseg.networks")]
LossName = Annotated[str, _known(LossKind, "autoseg.losses")]


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


class StagePlan(Record):
    """One resolution of the network; `stride` leads into it. The lowest has no decoder."""

    features: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    blocks: int
    decoder_blocks: int


class NetworkPlan(Record):
    """A U-Net, highest resolution first; a block is a convolution, or a residual pair of them.

    `kind` is one of NetworkKind, or the name of an extension's network. `squeeze_excitation`
    weighs the features of every block of the encoder by what the whole patch holds.
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
    def patch_divisor(self) -> tuple[int, ...]:
        """What a patch must be a multiple of, per axis: the product of all strides."""
        divisor = [1] * len(self.stages[0].stride)
        for stage in self.stages:
            divisor = [d * s for d, s in zip(divisor, stage.stride, strict=True)]
        return tuple(divisor)


class LossPlan(Record):
    """The loss; `batch_dice` sums overlaps over the batch before dividing.

    Each kind reads its own constants: Tversky its two weights, focal terms `focal_gamma`, top-k the
    share of voxels that count. `class_weights` weigh cross-entropy, one entry for each class;
    `boundary_weight` is added to the weight of voxels beside another class. `kind` is one of
    LossKind, or the name of an extension's loss.
    `regions` gives the class indices that make up each output, for networks that decide overlapping
    regions one by one; without it the outputs are classes that exclude each other.
    """

    kind: LossName
    batch_dice: bool
    dice_smooth: float
    false_positive_weight: float = Field(default=0.5, ge=0)
    false_negative_weight: float = Field(default=0.5, ge=0)
    focal_gamma: float = Field(default=2.0, gt=0)
    top_k_fraction: float = Field(default=1.0, gt=0, le=1)
    boundary_weight: float = Field(default=0.0, ge=0)
    class_weights: tuple[float, ...] | None = None
    regions: tuple[tuple[int, ...], ...] = ()


class RandomRange(Record):
    """A transform applied to a sample with a probability, its parameter drawn from a range.

    `channel_probability` then decides for each channel of the sample.
    """

    probability: float = Field(ge=0, le=1)
    range: Range
    channel_probability: float = Field(default=1.0, ge=0, le=1)

    @field_validator("range")
    @classmethod
    def _ascends(cls, given: Range) -> Range:
        if given[0] > given[1]:
            raise ValueError("the first value must not be above the second")
        return given


class AugmentationPlan(Record):
    """Random changes to training patches; ranges are multipliers unless the name says otherwise.

    Mirror axes are axes of prepared scans, 0 to 2, in two dimensions too.
    `planar`: the patch is so anisotropic that it is rotated and scaled within the plane only.
    `elastic_vox` is the largest displacement of control points that lie `elastic_spacing_vox`
    apart. The last three change the masks that the second stage of a cascade sees.
    """

    planar: bool
    mirror_axes: tuple[int, ...]
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
    mask_morphology_vox: RandomRange = RandomRange(probability=0, range=(1, 1))
    mask_component_loss_probability: float = 0.0
    mask_component_loss_fraction: float = 0.0


class TrainingPlan(Record):
    """Optimiser, schedule, sampling and length.

    `momentum` is Nesterov's for `sgd`, and the first moment's for `adamw`. The learning rate rises
    over `warmup_fraction` of the budget, then follows its schedule to 0. A step's gradient is
    the mean over `accumulated_batches`. `foreground_fraction` of a batch is centred on foreground:
    its last samples, or each sample with that probability. With `ema_decay` the model is a moving
    mean of the weights. Parts of the network that `frozen` names are not trained; each resolution
    learns at `layer_decay` times the rate of the one before it, going from the output down the
    decoder and up the encoder. `augment_on` the training device, or in processes of the CPU. `form`
    is how the network runs: what is fastest where it is measured. `early_stop_epochs` without a
    better moving mean of held-out patches end a training; `keep_best` also keeps the best model.
    """

    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    polynomial_power: float
    gradient_clip_norm: float = Field(gt=0)
    foreground_fraction: float = Field(ge=0, le=1)
    epochs: int = Field(gt=0)
    iterations_per_epoch: int = Field(gt=0)
    validation_iterations: int = Field(gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["polynomial", "cosine"] = "polynomial"
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    accumulated_batches: int = Field(default=1, gt=0)
    oversampling: Literal["last_of_batch", "probabilistic"] = "last_of_batch"
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    frozen: tuple[str, ...] = ()
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    augment_on: Literal["device", "workers"] = "device"
    form: Form | Literal["fastest"] = "fastest"
    early_stop_epochs: int | None = Field(default=None, gt=0)
    keep_best: bool = False


class InferencePlan(Record):
    """Sliding window: steps and Gaussian width as fractions of the patch.

    Mirror axes are axes of prepared scans, 0 to 2, in two dimensions too.
    """

    step_fraction: float = Field(gt=0, le=1)
    gaussian_sigma_fraction: float = Field(gt=0)
    mirror_axes: tuple[int, ...]


class Configuration(Record):
    """All that is needed to prepare, train and predict at one resolution.

    With two spatial dimensions slices across the first axis are segmented one by one: sizes then
    have two entries, and the first axis keeps each scan's own spacing. A cascade sees the masks of
    its `previous_stage` as further channels, one for each foreground class.
    """

    name: ConfigurationName
    spatial_dims: Literal[2, 3]
    orientation: Orientation
    axis_order: Shape3
    target_spacing_mm: tuple[float, ...]
    median_shape_vox: tuple[float, ...]
    patch_size_vox: tuple[int, ...]
    batch_size: int = Field(gt=0)
    normalization: tuple[ChannelNormalization, ...]
    resampling: ResamplingPlan
    network: NetworkPlan
    loss: LossPlan
    augmentation: AugmentationPlan
    training: TrainingPlan
    inference: InferencePlan
    previous_stage: ConfigurationName | None = None

    @property
    def patch_box_vox(self) -> Shape3:
        """The patch as a block of a prepared scan; a single slice deep in two dimensions."""
        y, x = self.patch_size_vox[-2:]
        return (1 if self.spatial_dims == 2 else self.patch_size_vox[0]), y, x

    def grid_spacing_mm(self, source_mm: Spacing3) -> Spacing3:
        """The spacing to resample a scan to, given its own along the plan's axes."""
        y, x = self.target_spacing_mm[-2:]
        return (source_mm[0] if self.spatial_dims == 2 else self.target_spacing_mm[0]), y, x


class Decision(Record):
    """Why a value is what it is: the rule that gave it, its reason, and the facts it looked at."""

    name: str
    configuration: ConfigurationName | None
    value: Any
    rule_id: str
    because: str
    facts: dict[str, Any]
    source: str


class Plan(Record):
    """What will be done with a dataset."""

    name: str
    rule_set: str
    machine: Machine
    labels: LabelScheme
    channel_names: tuple[str, ...]
    configurations: dict[ConfigurationName, Configuration]
    recommended: ConfigurationName
    decisions: tuple[Decision, ...]

    def configuration(self, name: str | None) -> Configuration:
        """The configuration of a name, or the recommended one. Raises AutosegError if none is."""
        for known, configuration in self.configurations.items():
            if known == (name or self.recommended):
                return configuration
        raise AutosegError(
            f"Plan {self.name!r} has no configuration {name!r}, only "
            f"{', '.join(self.configurations)}."
        )
