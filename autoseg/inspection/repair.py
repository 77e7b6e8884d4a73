"""A corrected copy of a dataset, where that is safe. The original is never touched."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem
from autoseg.dataset.reading import aligned, lie_alike
from autoseg.dataset.regridding import onto_grid, share_covered
from autoseg.errors import AutosegError
from autoseg.geometry import Grid, same_space
from autoseg.images.formats import file_ending
from autoseg.images.raw import nifti_header_of
from autoseg.images.volume import (
    WRITTEN_ENDING,
    Volume,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from autoseg.parallel import Progress, map_cases, silent
from autoseg.records import Record, save_json

REPAIRABLE = {"not_finite", "grid_mismatch"}  # of the errors; what else is left out is listed
ODD_HEADERS = {"unit", "header", "transforms_disagree", "trailing_bytes"}  # written anew
SMALLEST_KEPT = 0.9  # of a label's volume: what a resampled label must keep to be believed


class Repair(Record):
    """What was done to one case: a sentence for each file that differs from its source.

    A case that could not be corrected safely has a reason in `left_out`, and is not in the copy.
    """

    case_id: str
    changes: tuple[str, ...]
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A case to write into a folder; `anew` says that headers must be rewritten."""

    case: Case
    group: str
    out: Path
    anew: bool


def write_repaired(
    dataset: Dataset,
    problems: Sequence[Problem],
    out: Path,
    workers: int,
    progress: Progress = silent,
) -> list[Repair]:
    """Write a copy with a manifest; what changed in each case, or why it was left out.

    All channels and the label of a case are put on its first channel's grid: images linearly,
    labels to the nearest voxel. NaN and infinity become the channel's smallest number. Raises
    AutosegError when the folder is not empty.
    """
    if any(case.objects or case.object_classes for case in dataset.cases):
        raise AutosegError(
            f"{dataset.root}: --fix cannot copy objects that are numbered in files of their own, "
            "or whose classes are told in one. Correct these files by hand."
        )
    if out.exists() and any(out.iterdir()):
        raise AutosegError(f"{out}: this folder is not empty. Give a new one to --fix.")
    beyond = {p.case_id for p in problems if p.severity == "error" and p.kind not in REPAIRABLE}
    odd = {p.case_id for p in problems if p.kind in ODD_HEADERS}
    cases = [*((c, "train") for c in dataset.cases), *((c, "test") for c in dataset.test_cases)]
    tasks = {
        f"{group}/{case.case_id}": Task(case, group, out, case.case_id in odd)
        for case, group in cases
        if case.case_id not in beyond
    }
    repairs = map_cases(_write_case, tasks, workers, progress, "writing the copy")
    kept = [tasks[key] for key, repair in repairs.items() if repair.left_out is None]
    if not kept:
        raise AutosegError(f"{dataset.root}: no case can be corrected safely. Nothing was written.")
    save_json(_manifest(dataset, kept), out / "manifest.json")
    hopeless = [
        Repair(case_id=case_id, changes=(), left_out="it has errors that only you can correct")
        for case_id in sorted(case_id for case_id in beyond if case_id)
    ]
    return [r for r in repairs.values() if r.changes or r.left_out] + hopeless


def _write_case(task: Task) -> Repair:
    case, changes = task.case, list[str]()
    stored = {path: read_image(path, finite=False) for path in case.files()}
    stored_label = None if case.label is None else read_labels(case.label)
    first = _placed_twin(stored[case.files()[0]], stored_label)
    reference = first.grid
    volumes = {path: aligned(volume, first) for path, volume in stored.items()}
    label = None if stored_label is None else aligned(stored_label, first)
    reason = _why_unsafe(case, volumes, label)
    if reason is not None:
        return Repair(case_id=case.case_id, changes=(), left_out=reason)
    index = 0
    for path, volume in volumes.items():
        fixed, done = _fixed_image(volume, reference)
        done += _turned(volume)
        changes += [f"{path}: {what}" for what in done]
        places = [task.out / _channel_path(task, index + k) for k in range(len(fixed.array))]
        index += len(places)
        if not done and not task.anew and len(places) == 1 and file_ending(path) == WRITTEN_ENDING:
            places[0].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, places[0])
            continue
        header = nifti_header_of(reference.affine_ras_mm) if task.anew else fixed.nifti_header
        for place, channel in zip(places, fixed.array, strict=True):
            write_image(place, Volume(channel, reference, header))
    if task.anew:
        changes.append(f"{case.case_id}: its headers were written anew, in mm")
    if label is not None:
        changes += _write_label(task, label, reference)
    return Repair(case_id=case.case_id, changes=tuple(changes))


def _placed_twin(first: Volume, label: Volume | None) -> Volume:
    """The first file, or the label where that alone states where both of them lie."""
    if first.is_placed or label is None or not label.is_placed:
        return first
    return label if lie_alike(first.grid, label.grid) else first


def _why_unsafe(case: Case, volumes: dict[Path, Volume], label: Volume | None) -> str | None:
    """Why putting a case's files on one grid would be a guess; None where it is not."""
    reference = volumes[case.files()[0]].grid
    if label is not None and not same_space(label.grid, reference):
        if label.grid.shape_vox == reference.shape_vox:
            return (
                "its label has the image's shape, but lies elsewhere: most likely one of the two "
                "headers is wrong"
            )
        kept = onto_grid(Volume(label.array[None], label.grid, None), reference, nearest=True)
        voxel_mm3 = [float(np.prod(grid.spacing_mm)) for grid in (label.grid, reference)]
        volumes_mm3 = (
            np.count_nonzero(label.array) * voxel_mm3[0],
            np.count_nonzero(kept) * voxel_mm3[1],
        )
        if volumes_mm3[1] < SMALLEST_KEPT * volumes_mm3[0]:
            return "much of its label lies outside the image: most likely a header is wrong"
    return None


def _fixed_image(volume: Volume, reference: Grid) -> tuple[Volume, list[str]]:
    changes = []
    array = volume.array
    finite = np.isfinite(array)
    if not finite.all():
        smallest = [
            float(c[f].min()) if f.any() else 0.0 for c, f in zip(array, finite, strict=True)
        ]
        array = np.where(finite, array, np.array(smallest, array.dtype).reshape(-1, 1, 1, 1))
        changes.append(f"{int((~finite).sum())} voxels of NaN or infinity were replaced")
    fixed = Volume(array, volume.grid, volume.nifti_header)
    if not same_space(volume.grid, reference):
        array = onto_grid(fixed, reference, nearest=False)
        covered = share_covered(fixed, reference)
        fixed = Volume(array, reference, nifti_header_of(reference.affine_ras_mm))
        changes.append(
            f"was resampled to the first channel's grid; it covers {covered:.0%} of it, the rest "
            "has its smallest value"
        )
    return fixed, changes


def _write_label(task: Task, label: Volume, reference: Grid) -> list[str]:
    changes = [f"{task.case.label}: {what}" for what in _turned(label)]
    array, header = label.array, label.nifti_header
    if not same_space(label.grid, reference):
        array = onto_grid(Volume(array[None], label.grid, header), reference, nearest=True)[0]
        header = nifti_header_of(reference.affine_ras_mm)
        changes.append(f"{task.case.label}: was resampled to the first channel's grid")
    header = nifti_header_of(reference.affine_ras_mm) if task.anew else header
    write_labels(task.out / _label_path(task), Volume(array, reference, header))
    return changes


def _turned(volume: Volume) -> list[str]:
    """What was decided of a file's place to lay it on its scan."""
    return [odd.what for odd in volume.oddities if odd.kind == "turned_label"]


def _manifest(dataset: Dataset, kept: Sequence[Task]) -> dict[str, Any]:
    labels, declared = dataset.labels, dict[str, Any]()
    if labels is not None and labels.instances:
        declared["instances"] = True
    elif labels is not None:
        declared["labels"] = labels_as_declared(labels)
        if labels.things:
            declared["things"] = list(labels.things)
        if labels.codes:
            declared["label_codes"] = [one.model_dump(mode="json") for one in labels.codes]
        if labels.regions:
            declared["regions_class_order"] = list(labels.region_order)
    trained = {task.case.case_id for task in kept if task.group == "train"}
    folds = [[[c for c in side if c in trained] for side in fold] for fold in dataset.folds]
    if kept_folds := [{"train": train, "val": val} for train, val in folds if train and val]:
        declared["folds"] = kept_folds
    cases = []
    for task in kept:
        channels = {n: _channel_path(task, i) for i, n in enumerate(dataset.channel_names)}
        entry = {"case": task.case.case_id, "channels": channels}
        if task.case.label is not None:
            entry["label"] = _label_path(task)
        cases.append(entry | {"patient": task.case.patient_id, "group": task.group})
    return declared | {"cases": cases}


def labels_as_declared(labels: LabelScheme) -> dict[str, Any]:
    """The scheme as a `dataset.json` declares it."""
    if labels.regions:
        declared: dict[str, Any] = {"background": 0}
        declared |= {region.name: list(region.values) for region in labels.regions}
    else:
        declared = dict(zip(labels.names, labels.values, strict=True))
    return declared | ({} if labels.ignore is None else {"ignore": labels.ignore})


def _channel_path(task: Task, index: int) -> str:
    return f"{task.group}/images/{task.case.case_id}_{index:04d}{WRITTEN_ENDING}"


def _label_path(task: Task) -> str:
    return f"{task.group}/labels/{task.case.case_id}{WRITTEN_ENDING}"
