"""A corrected copy of a dataset, where that is safe. The original is never touched."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import Case, Dataset, LabelScheme, Problem
from autoseg.errors import AutosegError
from autoseg.geometry import Grid, same_space
from autoseg.records import Record, save_json
from autoseg.volume import (
    Volume,
    file_ending,
    nifti_header_of,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from autoseg.workers import Progress, map_cases, silent

REPAIRABLE = {"not_finite", "grid_mismatch"}  # of the errors; what else is left out is listed
COPIED = ".nii.gz"


class Repair(Record):
    """What was done to one case: a sentence for each file that differs from its source."""

    case_id: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A case to write into a folder; `in_mm` says that headers must be rewritten in mm."""

    case: Case
    channel_names: tuple[str, ...]
    out: Path
    in_mm: bool


def write_repaired(
    dataset: Dataset,
    problems: Sequence[Problem],
    out: Path,
    workers: int,
    progress: Progress = silent,
) -> tuple[list[Repair], list[str]]:
    """Write a copy with a manifest; what changed, and the ids of cases that had to be left out.

    All channels and the label of a case are put on its first channel's grid: images linearly,
    labels to the nearest voxel. NaN and infinity become the channel's smallest number. Raises
    AutosegError when the folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise AutosegError(f"{out}: this folder is not empty. Give a new one to --fix.")
    beyond = {p.case_id for p in problems if p.severity == "error" and p.kind not in REPAIRABLE}
    in_other_units = {p.case_id for p in problems if p.kind == "unit"}
    groups = {"train": dataset.cases, "test": dataset.test_cases}
    kept = [
        (case, g) for g, cases in groups.items() for case in cases if case.case_id not in beyond
    ]
    tasks = {
        case.case_id: Task(case, dataset.channel_names, out, case.case_id in in_other_units)
        for case, _ in kept
    }
    repairs = map_cases(_write_case, tasks, workers, progress, "writing the copy")
    save_json(_manifest(dataset, kept), out / "manifest.json")
    return [r for r in repairs.values() if r.changes], sorted(c for c in beyond if c)


def onto_grid(volume: Volume, grid: Grid, nearest: bool) -> NDArray[Any]:
    """Resample [channel, z, y, x] to another grid of the same space, of any affine.

    Linear, or to the nearest voxel; beyond its border an image has its smallest value, and a label
    map 0.
    """
    import SimpleITK as sitk  # noqa: N813  # 0.7 s, and seldom needed

    to_source = np.linalg.inv(volume.grid.affine_ras_mm) @ grid.affine_ras_mm  # of file indices
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape_vox[::-1])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    channels = []
    for channel in volume.array:
        resampler.SetDefaultPixelValue(0.0 if nearest else float(channel.min()))
        resampled = resampler.Execute(sitk.GetImageFromArray(channel))
        channels.append(sitk.GetArrayFromImage(resampled))
    return np.stack(channels)


def _write_case(task: Task) -> Repair:
    case, changes = task.case, []
    reference: Grid | None = None
    index = 0
    for path in case.files():
        volume = read_image(path, finite=False)
        reference = reference or volume.grid
        fixed, done = _fixed_image(volume, reference)
        changes += [f"{path}: {what}" for what in done]
        names = [_channel_path(case.case_id, index + k) for k in range(len(fixed.array))]
        index += len(names)
        if not done and not task.in_mm and len(names) == 1 and file_ending(path) == COPIED:
            (task.out / names[0]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, task.out / names[0])
            continue
        header = nifti_header_of(reference.affine_ras_mm) if task.in_mm else fixed.nifti_header
        for name, channel in zip(names, fixed.array, strict=True):
            write_image(task.out / name, Volume(channel, reference, header))
    if task.in_mm:
        changes.append(f"{case.case_id}: its headers were written in mm")
    assert reference is not None
    if case.label is not None:
        changes += _write_label(task, case.label, reference)
    return Repair(case_id=case.case_id, changes=tuple(changes))


def _fixed_image(volume: Volume, reference: Grid) -> tuple[Volume, list[str]]:
    changes = []
    array = volume.array
    finite = np.isfinite(array)
    if not finite.all():
        smallest = [float(c[f].min(initial=0)) for c, f in zip(array, finite, strict=True)]
        array = np.where(finite, array, np.array(smallest, array.dtype).reshape(-1, 1, 1, 1))
        changes.append(f"{int((~finite).sum())} voxels of NaN or infinity were replaced")
    fixed = Volume(array, volume.grid, volume.nifti_header)
    if not same_space(volume.grid, reference):
        array = onto_grid(fixed, reference, nearest=False)
        fixed = Volume(array, reference, nifti_header_of(reference.affine_ras_mm))
        changes.append("was resampled to the first channel's grid")
    return fixed, changes


def _write_label(task: Task, path: Path, reference: Grid) -> list[str]:
    label = read_labels(path)
    changes = []
    array, header = label.array, label.nifti_header
    if not same_space(label.grid, reference):
        with_channel = Volume(array[None], label.grid, header)
        array = onto_grid(with_channel, reference, nearest=True)[0]
        header = nifti_header_of(reference.affine_ras_mm)
        changes.append(f"{path}: was resampled to the first channel's grid")
    header = nifti_header_of(reference.affine_ras_mm) if task.in_mm else header
    write_labels(task.out / _label_path(task.case.case_id), Volume(array, reference, header))
    return changes


def _manifest(dataset: Dataset, kept: Sequence[tuple[Case, str]]) -> dict[str, Any]:
    labels, declared = dataset.labels, dict[str, Any]()
    if labels is not None and labels.instances:
        declared["instances"] = True
    elif labels is not None:
        declared["labels"] = declared_labels(labels)
        if labels.regions:
            declared["regions_class_order"] = list(labels.region_order)
    return declared | {
        "cases": [
            {
                "case": case.case_id,
                "channels": {
                    name: _channel_path(case.case_id, index)
                    for index, name in enumerate(dataset.channel_names)
                },
                **({"label": _label_path(case.case_id)} if case.label else {}),
                "patient": case.patient_id,
                "group": group,
            }
            for case, group in kept
        ],
    }


def declared_labels(labels: LabelScheme) -> dict[str, Any]:
    """The scheme as a `dataset.json` declares it."""
    if labels.regions:
        declared: dict[str, Any] = {"background": 0}
        declared |= {region.name: list(region.values) for region in labels.regions}
    else:
        declared = dict(zip(labels.names, labels.values, strict=True))
    return declared | ({} if labels.ignore is None else {"ignore": labels.ignore})


def _channel_path(case_id: str, index: int) -> str:
    return f"images/{case_id}_{index:04d}.nii.gz"


def _label_path(case_id: str) -> str:
    return f"labels/{case_id}.nii.gz"
