"""Reading a case: its channels put together on one grid, its label beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.dataset.dataset import Case
from autoseg.dataset.problems import Problem, raise_errors
from autoseg.geometry import SAME_SPACE_MM, Grid, corner_distance_mm, same_space
from autoseg.images.volume import Volume, read_image, read_labels


def read_case(case: Case) -> tuple[Volume, Volume]:
    """All channels of a case as one image, and its label map.

    Raises AutosegError when channels or label lie on different grids.
    """
    assert case.label is not None
    image = read_channels(case)
    label = read_labels(case.label)
    problems = grid_problems(case, image.grid, {case.label: label.grid})
    raise_errors(problems, f"{case.case_id}: grids differ")
    return image, label


def read_channels(case: Case) -> Volume:
    """All channels of a case as one image [channel, z, y, x], on the first channel's grid.

    Raises AutosegError when files lie on different grids, or hold other channels than expected.
    """
    volumes = {path: read_image(path) for path in case.files()}
    raise_errors(channel_problems(case, volumes), f"{case.case_id}: channels disagree")
    return merge_channels(case, volumes)


def merge_channels(case: Case, volumes: dict[Path, Volume]) -> Volume:
    """One image [channel, z, y, x] of a case's files, on the grid of the first."""
    first = volumes[case.files()[0]]
    if len(volumes) == 1:
        return first
    parts = [volumes[source.path].array[source.component or 0][None] for source in case.channels]
    return Volume(np.concatenate(parts), first.grid, first.nifti_header)


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
            f"than {first}: {_differences(grid, reference)} (corners may be {SAME_SPACE_MM} mm "
            "apart, or a quarter of a voxel).",
            fix="`autoseg check DATASET --fix OUT` writes a copy on one grid.",
        )
        for path, grid in others.items()
        if not same_space(grid, reference)
    ]


def _differences(grid: Grid, reference: Grid) -> str:
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
