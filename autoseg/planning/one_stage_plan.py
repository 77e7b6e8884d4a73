"""Networks that find objects in one stage: what they are made of."""

from typing import Annotated, Literal

from pydantic import Field

from autoseg.planning.stage_plan import PerAxis, StagePlan, stride_of
from autoseg.records import Record


class OneStagePlan(Record):
    """What networks share that find objects in one stage: a residual encoder, a pyramid of
    `features` from stage `mask_level` on, where masks lie, and heads of `tower` convolutions.

    They give the `candidates` that they are surest of.
    """

    stages: tuple[StagePlan, ...]
    bias: bool
    features: int
    mask_level: int = Field(ge=0)
    tower: int = Field(ge=0)
    head_stages: tuple[int, ...]
    candidates: int = Field(ge=1)
    deep_supervision: Literal[True] = True

    @property
    def levels(self) -> tuple[StagePlan, ...]:
        return self.stages

    @property
    def looked_at(self) -> tuple[int, ...]:
        """The stages of the pyramid that heads look at, and masks are made at."""
        return tuple(sorted({self.mask_level, *self.head_stages}))

    @property
    def mask_stride(self) -> PerAxis:
        """Voxels of the patch that one of a mask stands for, per axis."""
        return stride_of(self.stages[: self.mask_level + 1])


class SoloPlan(OneStagePlan):
    """SOLOv2: each cell of `grids`, one at each head's stage, looks for an object whose centre lies
    in it; masks are made of `mask_features`. Places are told by so many `waves` along each axis,
    beside its coordinate; older models have none. Where masks are `near` their cells, logits fall
    with the squared distance from there, as steeply as each cell says."""

    kind: Literal["solov2"] = "solov2"
    grids: tuple[PerAxis, ...]
    mask_features: int
    mask_tower: int = Field(ge=1)
    waves: tuple[Annotated[int, Field(ge=0)], ...] = ()
    near: bool = False

    def of_patch(self, before: PerAxis, after: PerAxis) -> "SoloPlan":
        """The same for patches of another size: cells are as wide; weights are those of before."""
        grids = tuple(
            tuple(-(-n * b // a) for n, a, b in zip(grid, before, after, strict=True))
            for grid in self.grids
        )
        return self.model_copy(update={"grids": grids})


class YolactPlan(OneStagePlan):
    """YOLACT: at each place of some stages of the pyramid boxes of each of the `anchors`, in voxels
    of the patch, are looked at; masks are sums of `prototypes`."""

    kind: Literal["yolact"] = "yolact"
    anchors: tuple[tuple[tuple[float, ...], ...], ...]  # of each stage, edges per axis
    prototypes: int
