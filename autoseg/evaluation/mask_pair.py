"""One class in both label maps of a scan, which is what every metric sees."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.dataset.labels import INSTANCE_SCHEME
from autoseg.evaluation.joined_lesions import JoinedLesions, join_lesions
from autoseg.evaluation.objects import Mask, Numbers, PairedObjects, number_objects, pair_objects
from autoseg.evaluation.saved_probabilities import SavedProbabilities
from autoseg.evaluation.surfaces import Distances, SurfaceKind, surface_distances, surface_of
from autoseg.geometry import Spacing3
from autoseg.images.value_boxes import ValueBoxes, joined
from autoseg.records import Record

Shape3 = tuple[int, int, int]
Labels = NDArray[np.integer[Any]]
Scalar = TypeVar("Scalar", bound=np.generic)

TOLERANCE_MM = 2.0  # of the normalised surface Dice, as in the CVPR 2025 challenge


class Convention(Record):
    """How scores are counted where the field's tools differ.

    `surfaces` are voxels whose neighbours lie outside (as in MONAI and MetricsReloaded), or
    elements of a surface with an area in mm² (as in DeepMind's surface-distance). Tolerances are of
    the normalised surface Dice: one for all classes, and others for some by name.
    """

    surfaces: SurfaceKind = "voxel"
    tolerance_mm: float = TOLERANCE_MM
    tolerances_mm: dict[str, float] = Field(default_factory=dict)

    def tolerance_of(self, name: str) -> float:
        return self.tolerances_mm.get(name, self.tolerance_mm)


@dataclass(frozen=True)
class MaskPair:
    """One class in both maps of a scan: three masks [z, y, x], cut to where either has it.

    Where `annotated` is false nobody has looked, and the other two are false as well; None means
    that all of the scan is annotated. Outside the cut there is background: `scan_shape_vox` is the
    whole scan, of which `scored_vox` are annotated. `beyond` is what of the prediction lies where
    nobody has looked, by which objects are judged that lie there in part.

    Objects are components, or those of maps that number them, `predicted_ids` and `reference_ids`;
    `predicted_scores` [number] say how sure predicted ones are, else their mean `probability` does,
    which is the class's, from 0 to 1. Where numbers are of `whole` objects, these reach beyond the
    masks, into the border that is a class of its own; their maps are cut to where both lie.
    """

    predicted: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    annotated: NDArray[np.bool_] | None
    spacing_mm: Spacing3
    scan_shape_vox: Shape3
    scored_vox: int
    tolerance_mm: float = TOLERANCE_MM
    surfaces: SurfaceKind = "voxel"
    beyond: Mask | None = None
    predicted_ids: Numbers | None = None
    reference_ids: Numbers | None = None
    probability: NDArray[np.floating[Any]] | None = None
    predicted_scores: NDArray[np.float64] | None = None
    whole: bool = False

    @property
    def is_ranked(self) -> bool:
        """Whether anything says which predicted objects are surer than others."""
        by_probability = self.probability is not None and not self.whole
        return by_probability or self.predicted_scores is not None

    @cached_property
    def sizes_vox(self) -> tuple[int, int]:
        """Voxels of the prediction, and of the reference."""
        return int(np.count_nonzero(self.predicted)), int(np.count_nonzero(self.reference))

    @cached_property
    def common_vox(self) -> int:
        """Voxels of both."""
        return int(np.count_nonzero(self.predicted & self.reference))

    @cached_property
    def objects(self) -> PairedObjects:
        """The objects of both, and how they overlap."""
        return self._paired(self.predicted_ids, self.reference_ids)

    @cached_property
    def components(self) -> PairedObjects:
        """The components of both, whatever numbers there are."""
        if self.predicted_ids is None and self.reference_ids is None:
            return self.objects
        return self._paired(None, None)

    @cached_property
    def joined_lesions(self) -> JoinedLesions:
        """The components as lesions of BraTS 2023."""
        return join_lesions(self.components, self.spacing_mm)

    def _paired(
        self, predicted_ids: Numbers | None, reference_ids: Numbers | None
    ) -> PairedObjects:
        predicted = self.predicted if self.beyond is None else self.predicted | self.beyond
        annotated, probability = None if self.beyond is None else self.annotated, self.probability
        reference = self.reference
        if self.whole and predicted_ids is not None and reference_ids is not None:
            predicted, reference = predicted_ids != 0, reference_ids != 0
            annotated = probability = None
        numbers = number_objects(predicted, predicted_ids)
        paired = pair_objects(
            numbers, number_objects(reference, reference_ids), annotated, probability
        )
        if predicted_ids is None or self.predicted_scores is None:
            return paired
        first = np.zeros(len(paired.confidences) + 1, np.int64)
        first[numbers] = predicted_ids  # any voxel's, since all of an object have one
        return replace(paired, confidences=self.predicted_scores[first[1:]])

    @property
    def volumes_ml(self) -> tuple[float, float]:
        """Volumes of the prediction, and of the reference."""
        voxel_mm3 = float(np.prod(self.spacing_mm))
        predicted_vox, reference_vox = self.sizes_vox
        return predicted_vox * voxel_mm3 / 1000, reference_vox * voxel_mm3 / 1000

    @property
    def diagonal_mm(self) -> float:
        """That of the whole scan, the largest distance that there can be."""
        return float(np.linalg.norm(np.multiply(self.scan_shape_vox, self.spacing_mm)))

    @property
    def axes(self) -> tuple[int, ...]:
        """All three, or the two of a scan that is a single slice, whichever way it lies: above and
        below it there is no surface."""
        single = self.scan_shape_vox.index(1) if 1 in self.scan_shape_vox else None
        return tuple(axis for axis in range(3) if axis != single)

    @property
    def drawn(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Prediction and reference [z, y, x], or along the two axes of a single slice."""
        whole = tuple(slice(None) if axis in self.axes else 0 for axis in range(3))
        return self.predicted[whole], self.reference[whole]

    @cached_property
    def surface_distances(self) -> tuple[Distances, Distances]:
        """From the prediction's surface to the reference's and back; neither mask may be empty."""
        spacing_mm = tuple(self.spacing_mm[axis] for axis in self.axes)
        predicted, reference = (surface_of(mask, spacing_mm, self.surfaces) for mask in self.drawn)
        return surface_distances(predicted, reference, spacing_mm)


@dataclass(frozen=True)
class MapPair:
    """Two label maps [z, y, x] of one scan. Voxels outside `annotated` do not count.

    Objects may be numbered by maps of their own; `probabilities` are of the classes by name. Where
    `objects_have_border`, as in INSTANCE_SCHEME, the numbers are of whole objects, with the border.
    """

    prediction: Labels
    reference: Labels
    annotated: NDArray[np.bool_] | None
    spacing_mm: Spacing3
    convention: Convention = field(default_factory=Convention)
    predicted_ids: Numbers | None = None
    reference_ids: Numbers | None = None
    probabilities: SavedProbabilities | None = None
    predicted_scores: NDArray[np.float64] | None = None
    objects_have_border: bool = False

    @cached_property
    def _boxes(self) -> tuple[ValueBoxes, ValueBoxes]:
        return ValueBoxes.of(self.prediction), ValueBoxes.of(self.reference)

    def masks(self, classes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, MaskPair]]:
        """A pair of masks for each class, or region of several values."""
        scored_vox = self.prediction.size
        if self.annotated is not None:
            scored_vox = int(np.count_nonzero(self.annotated))
        for name, values in classes.items():
            box, ids_box = self._box_of(values), self._ids_box(values)
            annotated = _cut(self.annotated, box)
            predicted = _mask(self.prediction[box], values)
            beyond = None if annotated is None else predicted & ~annotated
            probability = None if self.probabilities is None else self.probabilities.of(name)
            yield (
                name,
                MaskPair(
                    predicted=predicted if annotated is None else predicted & annotated,
                    reference=_mask(self.reference[box], values, annotated),
                    annotated=annotated,
                    spacing_mm=self.spacing_mm,
                    scan_shape_vox=_shape3(self.prediction),
                    scored_vox=scored_vox,
                    tolerance_mm=self.convention.tolerance_of(name),
                    surfaces=self.convention.surfaces,
                    beyond=beyond if beyond is not None and beyond.any() else None,
                    predicted_ids=None if ids_box is None else _cut(self.predicted_ids, ids_box),
                    reference_ids=None if ids_box is None else _cut(self.reference_ids, ids_box),
                    probability=_cut(probability, box),
                    predicted_scores=None if ids_box is None else self.predicted_scores,
                    whole=self.objects_have_border and ids_box is not None,
                ),
            )

    def _ids_box(self, values: tuple[int, ...]) -> tuple[slice, ...] | None:
        """Where a class's objects lie; None for a border, which is a part of others' objects."""
        if not self.objects_have_border:
            return self._box_of(values)
        inside, border = INSTANCE_SCHEME.values[1:]
        return self._box_of((inside, border)) if values == (inside,) else None

    def _box_of(self, values: tuple[int, ...]) -> tuple[slice, ...]:
        """The smallest box that holds some values in both maps; a single voxel where none is."""
        found = [box for box in (boxes.around(values) for boxes in self._boxes) if box is not None]
        return joined(found) or (slice(0, 1),) * 3


def _cut(whole: NDArray[Scalar] | None, box: tuple[slice, ...]) -> NDArray[Scalar] | None:
    return None if whole is None else whole[box]


def _mask(
    labels: Labels, values: tuple[int, ...], annotated: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    inside = labels == values[0] if len(values) == 1 else np.isin(labels, values)
    return inside if annotated is None else inside & annotated


def _shape3(labels: Labels) -> Shape3:
    z, y, x = labels.shape
    return z, y, x
