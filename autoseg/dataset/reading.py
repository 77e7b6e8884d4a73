"""Reading a case: its channels put together on one grid, its label beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.object_classes import classes_beside, values_of_objects
from autoseg.dataset.problems import Problem, raise_errors
from autoseg.dataset.regridding import resampled_like
from autoseg.geometry import (
    SAME_SPACE_MM,
    Grid,
    corner_distance_mm,
    reorder_axes,
    same_space,
    turn_onto,
)
from autoseg.images.raw import Oddity, nifti_header_of
from autoseg.images.volume import Volume, read_image, read_labels


def read_case(case: Case) -> tuple[Volume, Volume]:
    """All channels of a case as one image, and its label map.

    Raises AutosegError when channels or label lie on different grids.
    """
    assert case.label is not None
    image = read_channels(case)
    label = aligned(read_label_map(case.label, case.object_classes), image)
    problems = grid_problems(case, image.grid, {case.label: label.grid})
    raise_errors(problems, f"{case.case_id}: grids differ")
    return image, label


def read_label_map(path: Path, object_classes: Path | None = None) -> Volume:
    """A label file; of one that numbers objects whose classes another file tells, the classes.

    The other file is looked for beside it, unless it is named. Raises AutosegError where that says
    nothing of a number.
    """
    label, classes = read_labels(path), object_classes or classes_beside(path)
    if classes is None:
        return label
    return replace(label, array=values_of_objects(label.array, classes))


def read_channels(case: Case) -> Volume:
    """All channels of a case as one image [channel, z, y, x], on the first channel's grid.

    Raises AutosegError when files lie on different grids, or hold other channels than expected.
    """
    volumes = aligned_files(case, {path: read_image(path) for path in case.files()})
    raise_errors(channel_problems(case, volumes), f"{case.case_id}: channels disagree")
    return merge_channels(case, volumes)


def merge_channels(case: Case, volumes: dict[Path, Volume]) -> Volume:
    """One image [channel, z, y, x] of a case's files, on the grid of the first."""
    first = volumes[case.files()[0]]
    oddities = tuple(
        # A DICOM file's name may be a person's.
        oddity if volume.sources else replace(oddity, what=f"{path.name}: {oddity.what}")
        for path, volume in volumes.items()
        for oddity in volume.oddities
    )
    if len(volumes) == 1:
        return replace(first, oddities=oddities)
    parts = [volumes[source.path].array[source.component or 0][None] for source in case.channels]
    return replace(first, array=np.concatenate(parts), oddities=oddities)


def aligned_files(case: Case, volumes: dict[Path, Volume]) -> dict[Path, Volume]:
    """A case's files, each turned to the first one's order of voxels where that is all it takes.

    Those that are known to lie in one space are resampled to its grid.
    """
    first = volumes[case.files()[0]]
    turned = {path: aligned(volume, first) for path, volume in volumes.items()}
    if not case.in_one_space:
        return turned
    return {path: resampled_like(volume, first) for path, volume in turned.items()}


def aligned(volume: Volume, reference: Volume) -> Volume:
    """A volume with its voxels in the order of another's that has the very same ones.

    One that does not state where it lies is taken to lie where its twin of equal shape and voxel
    size does. Others are left as they are.
    """
    own, other = volume.grid, reference.grid
    if same_space(own, other):
        return volume
    if volume.is_placed and reference.is_placed:
        turn = turn_onto(own, other)
        if turn is None:
            return volume
        array, header = reorder_axes(volume.array, *turn), nifti_header_of(other.affine_ras_mm)
        what = f"its voxels are stored in the directions {own.axis_codes}, not {other.axis_codes} "
        what += "as those of its scan; it is turned, and no voxel changes."
        oddity = Oddity("turned_label", what, "--fix writes both in one order.")
    elif lie_alike(own, other):  # its own place is a guess, by which it could only be mirrored
        array, header = volume.array, reference.nifti_header
        what = "does not state where it lies, or its scan does not; both are taken to lie alike, "
        what += "voxel by voxel."
        oddity = Oddity("turned_label", what, "--fix writes both with one place.")
    else:
        return volume
    return Volume(np.ascontiguousarray(array), other, header, oddities=(*volume.oddities, oddity))


def lie_alike(a: Grid, b: Grid) -> bool:
    """Whether two grids may be one, as far as shape and voxel size tell."""
    return a.shape_vox == b.shape_vox and np.allclose(a.spacing_mm, b.spacing_mm, rtol=1e-3)


def channel_problems(case: Case, volumes: dict[Path, Volume]) -> list[Problem]:
    """Files that hold other channels than the dataset says, or lie on other grids."""
    grids = {path: volume.grid for path, volume in volumes.items()}
    problems = grid_problems(case, grids[case.files()[0]], grids)
    for path, volume in volumes.items():
        components = [source.component for source in case.channels if source.path == path]
        held = volume.array.shape[0]
        if components != [None] and sorted(c or 0 for c in components) != list(range(held)):
            problems.append(
                Problem(
                    kind="channel_count",
                    case_id=case.case_id,
                    file=str(path),
                    what=f"holds {held} channels, where {len(components)} were expected.",
                    fix="Give every scan the same channels, and declare them all.",
                )
            )
    return problems


def grid_problems(case: Case, reference: Grid, others: dict[Path, Grid]) -> list[Problem]:
    """Files that do not lie where the case's first file does."""
    first = case.files()[0].name
    return [
        Problem(
            kind="grid_mismatch",
            case_id=case.case_id,
            file=str(path),
            what=f"{'the label' if path == case.label else 'this channel'} lies on another grid "
            f"than {first}: {grid_differences(grid, reference)} (corners may be {SAME_SPACE_MM} mm "
            "apart, or a quarter of a voxel).",
            fix="Correct the header that is wrong; copy the scan's, if both were drawn together."
            if grid.shape_vox == reference.shape_vox
            else "`autoseg check DATASET --fix OUT` writes a copy on one grid.",
        )
        for path, grid in others.items()
        if not same_space(grid, reference)
    ]


def grid_differences(grid: Grid, reference: Grid) -> str:
    """What two grids differ in, of shape, spacing, orientation and origin."""
    parts = []
    if grid.shape_vox != reference.shape_vox:
        parts.append(f"{_times(grid.shape_vox)} against {_times(reference.shape_vox)} voxels")
    if not np.allclose(grid.spacing_mm, reference.spacing_mm, rtol=1e-3):
        parts.append(f"{_times(grid.spacing_mm)} against {_times(reference.spacing_mm)} mm")
    own, other = grid.affine_ras_mm, reference.affine_ras_mm
    own_way, other_way = (a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0) for a in (own, other))
    if not np.allclose(own_way, other_way, atol=1e-3):
        parts.append(f"directions {grid.axis_codes} against {reference.axis_codes}")
    if not np.allclose(own[:3, 3], other[:3, 3], atol=1e-2):
        origins = [", ".join(f"{mm:.4g}" for mm in a[:3, 3]) for a in (own, other)]
        parts.append(f"origin ({origins[0]}) against ({origins[1]}) mm")
    if grid.shape_vox == reference.shape_vox:
        parts.append(f"corners {corner_distance_mm(grid, reference):.3g} mm apart")
    return ", ".join(parts)


def _times(values: Sequence[float]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
