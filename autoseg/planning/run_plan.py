"""A training: batch, loss, augmentation, optimiser, schedule and length."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from autoseg.extensions import extension_names
from autoseg.planning.network_plan import one_of
from autoseg.records import Record

LossKind = Literal[
    "ce_dice", "ce_tversky", "topk_dice", "focal_dice", "focal_tversky", "matched_masks",
    "found_boxes",
]  # fmt: skip
BUILT_IN_LOSSES: tuple[str, ...] = get_args(LossKind)
Execution = Literal["eager", "channels_last", "compiled", "compiled_channels_last"]
PlannedExecution = Execution | Literal["fastest", "fastest_uncompiled"]
Range = tuple[float, float]


def _known_loss(name: str) -> str:
    if name in BUILT_IN_LOSSES:  # else nothing that is installed is looked at
        return name
    return one_of(name, BUILT_IN_LOSSES, extension_names("autoseg.losses"))


LossName = Annotated[str, AfterValidator(_known_loss)]


class MatchingPlan(Record):
    """How masks are matched to queries, and what their loss weighs; the cost is of equal weights.

    Masks are compared at `points`: for the loss, `uncertain_share` of them are those that the
    network is least sure of, among `oversampling` times as many.
    """

    points: int = Field(default=12544, ge=1)
    oversampling: float = Field(default=3.0, ge=1)
    uncertain_share: float = Field(default=0.75, ge=0, le=1)
    class_weight: float = Field(default=2.0, ge=0)
    mask_weight: float = Field(default=5.0, ge=0)
    dice_weight: float = Field(default=5.0, ge=0)
    no_object_weight: float = Field(default=0.1, ge=0)


class BoxLossPlan(Record):
    """How anchors are matched to objects, which of them are learned from, and what is lost.

    `atss` (Zhang et al. 2020) takes, of the `candidates` anchors of each size at each level whose
    middles are nearest to an object's, those whose IoU is above their mean and one deviation;
    `iou` those from `positive_overlap` on, the best of each object, and below `negative_overlap`
    none. Of a sample `anchors` are learned from: at most `positive_share` with an object, and of
    the others, `hard_pool` times as many as are wanted, the likeliest. A step's regions have an
    object from an IoU of its own of `overlaps` on, and masks from the first. `box_weight` is of
    boxes, `mask_weight` of masks, and `dense_weight` of what a panoptic branch says.
    """

    matching: Literal["atss", "iou"] = "atss"
    candidates: int = Field(default=4, ge=1)
    positive_overlap: float = Field(default=0.7, gt=0, le=1)
    negative_overlap: float = Field(default=0.3, ge=0, le=1)
    anchors: int = Field(default=256, ge=1)
    positive_share: float = Field(default=0.33, gt=0, le=1)
    hard_pool: int = Field(default=20, ge=1)
    box_loss: Literal["giou", "smooth_l1"] = "giou"
    overlaps: tuple[float, ...] = Field(default=(0.5, 0.6, 0.7), min_length=1)
    box_weight: float = Field(default=1.0, ge=0)
    mask_weight: float = Field(default=1.0, ge=0)
    dense_weight: float = Field(default=1.0, ge=0)


class LossPlan(Record):
    """The loss; `batch_dice` sums overlaps over the batch before dividing.

    `matched_masks` is of mask queries, and reads `matching` alone; `found_boxes` reads `boxes`.

    Each kind reads its own constants: Tversky its two weights, focal terms `focal_gamma`, top-k the
    share of voxels that count. `class_weights` weigh cross-entropy, one entry for each class;
    `boundary_weight` is added to the weight of voxels beside another class. `kind` is one of
    LossKind, or the name of an extension's loss.
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
    matching: MatchingPlan | None = None
    boxes: BoxLossPlan | None = None


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

    `momentum` is Nesterov's for `sgd` and `muon`, and the first moment's for `adamw` (0.9 for what
    `muon` leaves to it). The learning rate rises over `warmup_fraction` of the budget, then follows
    its schedule to 0. A step's gradient is the mean over `accumulated_batches`.
    `foreground_fraction` of a step's samples is centred on foreground: the last ones, or each with
    that probability. With `ema_decay` the model is a moving mean of the weights. Parts of the
    network that `frozen` names are not trained; each resolution learns at `layer_decay` times the
    rate of the one before it, going from the output down the decoder and up the encoder; what is
    nearest to the output learns at `head_rate` times its rate. `augment_on` the training device, or
    in processes of the CPU. `execution` is how the network is run: what is fastest where it is
    measured. `early_stop_epochs` without a better moving mean of held-out patches end a training;
    `keep_best` also keeps the best model.
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
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    schedule: Literal["polynomial", "cosine"] = "polynomial"
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    accumulated_batches: int = Field(default=1, gt=0)
    oversampling: Literal["last_of_batch", "probabilistic"] = "last_of_batch"
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    frozen: tuple[str, ...] = ()
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    head_rate: float = Field(default=1.0, gt=0)
    augment_on: Literal["device", "workers"] = "device"
    execution: PlannedExecution = "fastest"
    early_stop_epochs: int | None = Field(default=None, gt=0)
    keep_best: bool = False

    @property
    def steps_per_epoch(self) -> float:
        """Training steps that take as long as an epoch; looking at held-out patches needs no
        gradient, so each of these counts a third."""
        return self.iterations_per_epoch + self.validation_iterations / 3


class RunPlan(Record):
    """How a model is trained; models that differ in it alone can be averaged."""

    batch_size: int = Field(gt=0)
    loss: LossPlan
    augmentation: AugmentationPlan
    training: TrainingPlan

    @property
    def step_samples(self) -> int:
        """Patches that make one step of the optimiser."""
        return self.batch_size * self.training.accumulated_batches
