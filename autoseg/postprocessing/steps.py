"""Steps that correct a finished mask: records that are saved, and the voxels that each changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import cc3d
import fill_voids
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.geometry import Spacing3
from autoseg.images.value_boxes import ValueBoxes
from autoseg.records import Record

FOREGROUND = "foreground"  # what a step is of that takes all classes together
EVERYWHERE = 26  # neighbours: components touch by face, edge or corner; 8 in a single slice
ROUNDING = 1e-6  # of a volume that was divided by a voxel's

Labels = NDArray[np.integer[Any]]
Measure = Literal["largest_probability", "mean_probability"]


class Confidence(Record):
    """How probable a class is: at most, anywhere in a scan, and on average within its mask; and the
    soft Dice of probabilities and mask."""

    largest_probability: float
    mean_probability: float | None
    expected_dice: float | None = None


class LargestComponent(Record):
    """Keep the largest component of some values; all of them where several are equally large."""

    kind: Literal["largest_component"] = "largest_component"
    of: str  # the class or region that the values are of
    values: tuple[int, ...]
    becomes: int = 0  # the value of what is removed


class SmallComponents(Record):
    """Remove components of some values below a volume."""

    kind: Literal["small_components"] = "small_components"
    of: str
    values: tuple[int, ...]
    min_volume_mm3: float = Field(gt=0)
    becomes: int = 0


class Holes(Record):
    """Fill background that some values enclose; in a single slice what they enclose there."""

    kind: Literal["holes"] = "holes"
    of: str
    values: tuple[int, ...]
    becomes: int


class Absent(Record):
    """Remove a class from a scan where its probability is too low for it to be there at all."""

    kind: Literal["absent"] = "absent"
    of: str
    values: tuple[int, ...]
    measure: Measure
    threshold: float = Field(gt=0, le=1)
    becomes: int = 0


Step = Annotated[LargestComponent | SmallComponents | Holes | Absent, Field(discriminator="kind")]


def measured(confidence: Confidence, measure: Measure) -> float | None:
    """One of the two probabilities."""
    if measure == "mean_probability":
        return confidence.mean_probability
    return confidence.largest_probability


def describe(step: Step) -> str:
    """A step in a few words."""
    if isinstance(step, LargestComponent):
        return f"largest component of {step.of} kept"
    if isinstance(step, SmallComponents):
        return f"components of {step.of} under {step.min_volume_mm3:g} mm³ removed"
    if isinstance(step, Holes):
        return f"holes of {step.of} filled"
    measure = step.measure.replace("_", " ")
    return f"{step.of} dropped where its {measure} is under {step.threshold:g}"


def apply_steps(
    labels: Labels,
    spacing_mm: Spacing3,
    steps: Sequence[Step],
    confidences: Mapping[str, Confidence],
) -> tuple[Labels, tuple[Step, ...]]:
    """A corrected copy of a label map [z, y, x], and the steps that changed anything.

    Values are those of the training files. `confidences` are by class or region, of the mask as it
    came from the networks; a class without any is left where it is.
    """
    corrected, changed = labels.copy(), []
    for step in steps:
        where = Parts(corrected, spacing_mm, confidences).changed_by(step)
        if where.size:
            corrected.reshape(-1)[where] = step.becomes
            changed.append(step)
    return corrected, tuple(changed)


@dataclass(frozen=True, slots=True)
class _Components:
    """Components within a box: a key for each voxel [z, y, x], from 1, and how many have each."""

    box: tuple[slice, ...]
    keys: NDArray[np.integer[Any]]
    sizes_vox: NDArray[np.integer[Any]]  # [key], 0 for the background


class Parts:
    """What steps look at in one label map [z, y, x]; components are looked for once."""

    def __init__(
        self, labels: Labels, spacing_mm: Spacing3, confidences: Mapping[str, Confidence]
    ) -> None:
        self.labels = np.ascontiguousarray(labels)
        self.voxel_mm3 = float(np.prod(spacing_mm))
        self.confidences = confidences
        self.boxes = ValueBoxes.of(self.labels)
        self.found: dict[tuple[int, ...], _Components | None] = {}

    def changed_by(self, step: Step) -> NDArray[np.intp]:
        """Which voxels, as indices of the flattened map, get the step's value."""
        if isinstance(step, Absent):
            return self._if_improbable(step)
        if isinstance(step, Holes):
            return self._holes(step)
        components = self.components(step.values)
        if components is None:
            return np.empty(0, np.intp)
        if isinstance(step, LargestComponent):
            least_vox = int(components.sizes_vox.max())
        else:
            least_vox = int(np.ceil(step.min_volume_mm3 / self.voxel_mm3 - ROUNDING))
        removed = components.sizes_vox < least_vox
        removed[0] = False
        if not removed.any():
            return np.empty(0, np.intp)
        return self._indices(components.box, removed[components.keys])

    def volumes_mm3(self, values: tuple[int, ...]) -> NDArray[np.float64]:
        """The volumes of all components of some values."""
        components = self.components(values)
        if components is None:
            return np.empty(0)
        return np.asarray(components.sizes_vox[1:] * self.voxel_mm3, np.float64)

    def components(self, values: tuple[int, ...]) -> _Components | None:
        """The components of some values together; None where the map has none of them."""
        if values not in self.found:
            self.found[values] = self._look_for(values)
        return self.found[values]

    def _look_for(self, values: tuple[int, ...]) -> _Components | None:
        box = self.boxes.around(values)
        if box is None:
            return None
        # Bytes, since cc3d 4.1 fails on lines of booleans.
        mask = np.ascontiguousarray(self._inside(box, values)).view(np.uint8)
        keys = cc3d.connected_components(mask, connectivity=EVERYWHERE)
        sizes_vox = np.bincount(keys.reshape(-1))
        sizes_vox[0] = 0
        return _Components(box, keys, sizes_vox)

    def _if_improbable(self, step: Absent) -> NDArray[np.intp]:
        confidence, box = self.confidences.get(step.of), self.boxes.around(step.values)
        if confidence is None or box is None:
            return np.empty(0, np.intp)
        probability = measured(confidence, step.measure)
        if probability is None or probability >= step.threshold:
            return np.empty(0, np.intp)
        return self._indices(box, self._inside(box, step.values))

    def _holes(self, step: Holes) -> NDArray[np.intp]:
        box = self.boxes.around(step.values)
        if box is None:
            return np.empty(0, np.intp)
        mask = self._inside(box, step.values)
        deep = tuple(0 if size == 1 else slice(None) for size in self.labels.shape)
        filled = mask.copy()
        if filled[deep].ndim >= 2:  # a line encloses nothing
            filled[deep] = fill_voids.fill(np.ascontiguousarray(mask[deep]))
        return self._indices(box, filled & (self.labels[box] == 0))

    def _inside(self, box: tuple[slice, ...], values: tuple[int, ...]) -> NDArray[np.bool_]:
        part = self.labels[box]
        return part == values[0] if len(values) == 1 else np.isin(part, values)

    def _indices(self, box: tuple[slice, ...], mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """A mask within a box as indices of the flattened map."""
        here = np.nonzero(mask)
        there = tuple(index + part.start for index, part in zip(here, box, strict=True))
        return np.asarray(np.ravel_multi_index(there, self.labels.shape), np.intp)
