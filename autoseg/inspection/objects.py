"""What the objects of one scan are: how large, how near to each other, how convex; and their
mistakes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import IGNORED
from autoseg.dataset.layouts.folder_files import listed
from autoseg.geometry import Spacing3

SOLIDITY_SAMPLE = 50  # objects of a scan whose hulls are made
SOLIDITY_VOXELS = 12  # that an object has at least, for its hull to say anything
BOX_VOX = (128, 128, 128)  # of which the fullest is counted
SLICE_BOX_VOX = (1, 256, 256)

Numbers = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class ObjectSamples:
    """Of every object: its class's index, measure and neighbours; empty without things."""

    of_class: NDArray[np.int64]  # [object]
    diameter_mm: NDArray[np.float64]  # [object] of the ball, or in one slice the disc, as large
    touches: NDArray[np.bool_]  # [object] shares a face, edge or corner with another
    solidity: NDArray[np.float64]  # [object] its share of its convex hull; NaN where not measured
    in_box: NDArray[np.int64]  # [class] most centres in a box of a patch's size
    sizes_vox: NDArray[np.int64]  # [object, axis] of the box around it


NO_OBJECTS = ObjectSamples(
    np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0), np.zeros(0, np.int64),
    np.zeros((0, 3), np.int64),
)  # fmt: skip


def measure_objects(
    numbers: Numbers, classes: NDArray[np.uint8], spacing_mm: Spacing3, class_count: int
) -> ObjectSamples:
    """Measure numbered objects [z, y, x] beside class indices [z, y, x].

    An object of two classes counts as the one that it has more voxels of.
    """
    count = int(numbers.max(initial=0))
    if not count:
        return NO_OBJECTS
    measured = cc3d.statistics(numbers, no_slice_conversion=True)
    of_class = class_shares(numbers, classes, class_count).argmax(axis=1)[1:]
    lone = [axis for axis, size in enumerate(numbers.shape) if size == 1]
    mm = np.array([1.0 if axis in lone else spacing_mm[axis] for axis in range(3)])
    size_mm = measured["voxel_counts"][1:] * mm.prod()
    diameter_mm = 2 * (np.sqrt(size_mm / pi) if lone else np.cbrt(0.75 * size_mm / pi))
    touches = np.zeros(count + 1, np.bool_)
    for pair in cc3d.contacts(numbers, connectivity=26, surface_area=False):
        touches[list(pair)] = True
    return ObjectSamples(
        of_class=of_class.astype(np.int64),
        diameter_mm=diameter_mm,
        touches=touches[1:],
        solidity=_solidities(numbers, measured),
        in_box=_most_in_a_box(measured["centroids"][1:], of_class, numbers.shape, class_count),
        sizes_vox=np.diff(measured["bounding_boxes"][1:].astype(np.int64))[:, ::2] + 1,
    )


def class_shares(
    numbers: Numbers, classes: NDArray[np.uint8], class_count: int
) -> NDArray[np.int64]:
    """Voxels of each class that each object has [object, class], from object 0."""
    inside = np.flatnonzero(numbers)
    pairs = numbers.reshape(-1)[inside].astype(np.int64) * class_count
    pairs += classes.reshape(-1)[inside]
    count = int(numbers.max(initial=0)) + 1
    return np.bincount(pairs, minlength=count * class_count).reshape(count, class_count)


def object_mistakes(
    numbers: Numbers, classes: NDArray[np.uint8], class_count: int, one_class: bool
) -> Iterator[tuple[str, str, str]]:
    """Kind, what, and remedy of what is odd in numbered objects: of two pieces, of two classes
    unless all are of `one_class`, or of one voxel."""
    pieces = cc3d.connected_components(numbers, connectivity=26)
    first = np.zeros(int(pieces.max(initial=0)) + 1, np.int64)
    first[pieces.reshape(-1)] = numbers.reshape(-1)
    parts = np.bincount(first[1:], minlength=1)
    if apart := np.flatnonzero(parts > 1).tolist():
        fix = "Give each piece a number of its own, or join them."
        yield "object_in_pieces", f"has {_objects(apart)} in several pieces.", fix
    shares = class_shares(numbers, classes, class_count)
    if not one_class and (mixed := np.flatnonzero((shares > 0).sum(axis=1) > 1).tolist()):
        fix = "Correct the label, or the numbers."
        yield "object_of_two_classes", f"has {_objects(mixed)} of more than one class.", fix
    if tiny := np.flatnonzero(shares.sum(axis=1) == 1).tolist():
        fix = "Is it a slip of the pen? Remove it."
        yield "object_of_one_voxel", f"has {_objects(tiny)} of a single voxel.", fix


def number_mistakes(
    given: NDArray[np.integer[Any]], classes: NDArray[np.uint8], things: Sequence[int]
) -> Iterator[tuple[str, str, str]]:
    """Kind, what, and remedy of where the numbers that a file gives and the label beside it differ:
    objects, or some of their voxels, that are no thing in the label, and things without a number.
    What nobody annotated says nothing."""
    of_things = np.isin(classes, things)
    outside = given[(given != 0) & ~of_things & (classes != IGNORED)]
    lost = np.setdiff1d(fastremap.unique(outside), fastremap.unique(given[of_things])).tolist()
    fix = "Correct the label, or the numbers: there they are left out."
    if lost:
        noun = "an object" if len(lost) == 1 else f"{len(lost)} objects"
        what = f"has {noun} ({listed(map(str, lost))}) where the label has no class of things."
        yield "object_without_class", what, fix
    if spilled_vox := int(np.count_nonzero(~np.isin(outside, lost))):
        what = f"has objects of which {_voxels(spilled_vox)} lie where the label has no thing."
        yield "object_beyond_its_class", what, fix
    if bare_vox := int(np.count_nonzero(of_things & (given == 0))):
        what = f"gives no number to {_voxels(bare_vox)} of things in the label."
        yield "thing_without_number", what, "Number them, or they are of no object in training."


def _voxels(count: int) -> str:
    return "1 voxel" if count == 1 else f"{count:,} voxels"


def _objects(numbers: Sequence[int]) -> str:
    """Objects in words; they are counted in the order in which the file has them."""
    noun = "an object" if len(numbers) == 1 else f"{len(numbers)} objects"
    return f"{noun} (number {listed(map(str, numbers))} from the file's lowest)"


def _solidities(numbers: Numbers, measured: dict[str, Any]) -> NDArray[np.float64]:
    """The share of its convex hull that each of a sample of objects fills, evenly chosen."""
    voxels, bounds = measured["voxel_counts"], measured["bounding_boxes"]
    large = np.flatnonzero(voxels >= SOLIDITY_VOXELS)
    large = large[large > 0]
    evenly = np.linspace(0, max(0, len(large) - 1), SOLIDITY_SAMPLE).astype(int)
    solidity = np.full(len(voxels) - 1, np.nan)
    for number in large[np.unique(evenly)].tolist() if len(large) else ():
        z, z_last, y, y_last, x, x_last = (int(edge) for edge in bounds[number])
        part = numbers[z : z_last + 1, y : y_last + 1, x : x_last + 1]
        solidity[number - 1] = _solidity(part == number)
    return solidity


def _solidity(mask: NDArray[np.bool_]) -> float:
    """The share of its convex hull that a mask [z, y, x] fills: voxels are boxes, a box has 1.

    Spacing does not matter, since it stretches both alike.
    """
    from scipy.spatial import ConvexHull, QhullError  # takes half a second to import

    wide = [axis for axis, size in enumerate(mask.shape) if size > 1]
    if len(wide) < 2:
        return 1.0
    mask = mask.squeeze(tuple(axis for axis in range(3) if axis not in wide))
    points = np.argwhere(mask)
    steps = np.stack(np.meshgrid(*[(0, 1)] * len(wide), indexing="ij"), -1).reshape(-1, len(wide))
    corners = np.unique((points[:, None] + steps).reshape(-1, len(wide)), axis=0)
    try:
        return float(mask.sum() / ConvexHull(corners).volume)
    except QhullError:
        return float("nan")


def _most_in_a_box(
    centres_vox: NDArray[Any], of_class: NDArray[Any], shape: tuple[int, ...], class_count: int
) -> NDArray[np.int64]:
    """The most centres of each class in any box of a grid of them."""
    edges = (SLICE_BOX_VOX[-1],) * 3 if 1 in shape else BOX_VOX
    place = (centres_vox // np.array(edges)).astype(np.int64)
    rows = np.column_stack((of_class, place))
    found, counts = np.unique(rows, axis=0, return_counts=True)
    most = np.zeros(class_count, np.int64)
    np.maximum.at(most, found[:, 0], counts)
    return most
