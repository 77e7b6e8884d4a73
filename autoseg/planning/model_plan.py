"""The model: patch, inputs, network and task; all that weights depend on."""

from typing import Annotated, Literal

from pydantic import Field

from autoseg.geometry import Shape3
from autoseg.planning.network_plan import NetworkPlan
from autoseg.records import Record

ConfigurationName = Literal["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]


class ScanInput(Record):
    """The scan's own channels, by name."""

    kind: Literal["scan"] = "scan"
    channels: tuple[str, ...]

    @property
    def channel_names(self) -> tuple[str, ...]:
        return self.channels


class StageMaskInput(Record):
    """What an earlier stage found, one channel for each of its foreground classes."""

    kind: Literal["stage_mask"] = "stage_mask"
    stage: ConfigurationName
    classes: tuple[str, ...]

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(f"mask of {name}" for name in self.classes)


InputPlan = Annotated[ScanInput | StageMaskInput, Field(discriminator="kind")]


class SemanticPlan(Record):
    """Every voxel is told apart: into classes that exclude each other, the background first, or
    into regions that may overlap, each the indices of the classes that make it up."""

    kind: Literal["semantic"] = "semantic"
    classes: int
    regions: tuple[tuple[int, ...], ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers the network gives for each voxel."""
        return len(self.regions) or self.classes


class DistancePlan(Record):
    """Every voxel is told apart, and besides how far it lies inside its object, so that objects
    that touch part where the distance has a valley.

    Outputs are the classes, the background first, then the distance: from a voxel of a thing
    to the nearest one that is not of its object, as a share of `reach_mm`, and at most 1.
    `spacing_mm` is that of the plan's grid, along the patch's axes.
    """

    kind: Literal["distance"] = "distance"
    classes: int
    spacing_mm: tuple[float, ...]
    reach_mm: float = Field(gt=0)
    weight: float = Field(default=1.0, gt=0)  # of the distance's loss beside that of classes

    @property
    def outputs(self) -> int:
        """How many numbers the network gives for each voxel."""
        return self.classes + 1


class FlowPlan(Record):
    """Every voxel is told apart, and besides the way from it to the middle of its object, so that
    objects that touch part where the ways do.

    Outputs are the classes, the background first, then a vector along the patch's axes (z, y, x),
    whose length is 1 inside objects; in slices z is 0. Ways are told as far as heat comes from the
    middle in so many `steps`, of a voxel each. `spacing_mm` is that of the plan's grid. Where
    objects have a `border` class it is a part of the class before it.
    """

    kind: Literal["flow"] = "flow"
    classes: int
    border: int | None = None
    spacing_mm: tuple[float, ...]
    steps: int = Field(ge=1)
    weight: float = Field(default=1.0, gt=0)  # of the ways' loss beside that of classes

    @property
    def outputs(self) -> int:
        """How many numbers the network gives for each voxel."""
        return self.classes + 3


class WholeObjectsPlan(Record):
    """What all have in common that find objects of classes of `things` as wholes.

    Masks are `mask_stride` times as coarse as the patch. Where objects have a `border` class it is
    a part of the class before it. An object is kept from `object_score` on, and where at least
    `kept_share` of it is not nearer to another.
    """

    classes: int
    things: tuple[int, ...] = ()
    border: int | None = None
    mask_stride: tuple[int, ...]
    object_score: float = Field(default=0.3, ge=0, le=1)
    kept_share: float = Field(default=0.8, ge=0, le=1)

    @property
    def outputs(self) -> int:
        """How many scores each voxel has: of the classes, the background first."""
        return self.classes


class MaskQueriesPlan(WholeObjectsPlan):
    """Queries each find one mask and its class: an object of a class of `things`, else all voxels
    of a class, the background among them."""

    kind: Literal["mask_queries"] = "mask_queries"
    object_score: float = Field(default=0.5, ge=0, le=1)
    queries: int = Field(ge=1)


class BoxesPlan(WholeObjectsPlan):
    """Objects of classes of `things` each have a box, a class and a mask; the rest is background,
    or what a panoptic branch says. A patch has at most `objects`."""

    kind: Literal["boxes"] = "boxes"
    kept_share: float = Field(default=0.5, ge=0, le=1)  # as Panoptic FPN's in detectron2
    things: tuple[int, ...] = Field(min_length=1)
    objects: int = Field(ge=1)

    @property
    def queries(self) -> int:
        """How many masks are looked for in labels: objects, and what else there is."""
        return self.objects + self.classes


class CandidatesPlan(WholeObjectsPlan):
    """Every voxel is told apart, and besides the `queries` surest candidates of a patch each have a
    class of `things`, and a mask; other classes are not looked for one by one.

    `sizes_mm` are those of the objects that each of SOLOv2's grids looks for, in mm at
    `spacing_mm`: the geometric mean of the sides of their boxes.
    """

    kind: Literal["solov2", "yolact"]
    queries: int = Field(ge=1)
    spacing_mm: tuple[float, ...] = ()
    sizes_mm: tuple[tuple[float, float], ...] = ()


ObjectsPlan = MaskQueriesPlan | BoxesPlan | CandidatesPlan  # of what finds objects as wholes

# One record for each kind of answer, told apart by `kind`; all know their `outputs`.
TaskPlan = Annotated[
    SemanticPlan | DistancePlan | FlowPlan | MaskQueriesPlan | BoxesPlan | CandidatesPlan,
    Field(discriminator="kind"),
]


class ModelPlan(Record):
    """What a network sees, what it is, and what it is trained to say.

    The patch has two entries where slices across the first axis are segmented one by one.
    """

    patch_size_vox: tuple[int, ...]
    inputs: tuple[InputPlan, ...]
    network: NetworkPlan
    task: TaskPlan

    @property
    def spatial_dims(self) -> int:
        return len(self.patch_size_vox)

    @property
    def patch_box_vox(self) -> Shape3:
        """The patch as a block of a prepared scan; a single slice deep in two dimensions."""
        y, x = self.patch_size_vox[-2:]
        return (1 if self.spatial_dims == 2 else self.patch_size_vox[0]), y, x

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The network's input channels, in order."""
        return tuple(name for source in self.inputs for name in source.channel_names)

    @property
    def stage_mask(self) -> StageMaskInput | None:
        """The input that comes from an earlier stage, in the later stages of cascades."""
        return next((source for source in self.inputs if source.kind == "stage_mask"), None)
