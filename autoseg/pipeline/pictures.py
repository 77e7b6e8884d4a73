"""Pictures of masks: a few slices of each scan with outlines, beside masks and in reports."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.dataset.layouts.naming import group_channels, image_files, stem
from autoseg.dataset.reading import aligned, read_label_map
from autoseg.errors import AutosegError
from autoseg.evaluation.declared import find_labels, read_labels_of
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.pairing import IMAGE_FOLDERS, REFERENCE_FOLDERS, pair_masks
from autoseg.geometry import same_space
from autoseg.images.volume import Volume, read_image, read_labels
from autoseg.parallel import Progress, map_cases, silent
from autoseg.pipeline.evaluate import EvaluateJob
from autoseg.records import replacing
from autoseg.reporting.mosaic import Classes, MaskedScan, MosaicSlices, cut_slices, draw_mosaic

log = logging.getLogger(__name__)

PICTURES = "pictures"  # the folder of them, beside masks


def classes_of(labels: LabelScheme | None, keys: Iterable[str]) -> Classes:
    """The values of each class that scores are listed by: of a region, or the key itself."""
    regions = {region.name: region.values for region in labels.regions} if labels else {}
    return {key: regions[key] if key in regions else (int(key),) for key in keys}


def declared_classes(labels: LabelScheme) -> Classes:
    """The values of each region, or of each foreground class, by name."""
    if labels.regions:
        return {region.name: region.values for region in labels.regions}
    return {name: (value,) for name, value in zip(labels.names[1:], labels.values[1:], strict=True)}


@dataclass(frozen=True, slots=True)
class Pictured:
    """The files of a case that a picture shows: a scan's first channel and a reference, or none."""

    title: str
    mask: Path
    scan: Path | None
    reference: Path | None
    classes: Classes
    instances: bool = False  # the reference numbers objects


def read_mosaic(pictured: Pictured) -> MosaicSlices:
    """The slices of a case. Raises AutosegError where its files do not lie on one grid."""
    mask = read_labels(pictured.mask)
    scan = None if pictured.scan is None else read_image(pictured.scan)
    reference = None if pictured.reference is None else read_label_map(pictured.reference)
    if reference is not None:
        mask = aligned(mask, reference)
        if pictured.instances:
            array = instance_classes(reference.array, reference.grid.spacing_mm)
            reference = replace(reference, array=array)
    if scan is not None:
        scan = aligned(scan, mask)
    for other in (scan, reference):
        if other is not None and not same_space(other.grid, mask.grid):
            raise AutosegError(f"{pictured.mask}: its scan or reference lies on another grid.")
    return cut_slices(
        pictured.title,
        MaskedScan(
            mask.grid,
            None if scan is None else scan.array[0],
            mask.array,
            None if reference is None else reference.array,
        ),
        pictured.classes,
    )


@dataclass(frozen=True, slots=True)
class PictureWriter:
    """Draws masks that were just made, outlined on their scans."""

    folder: Path
    classes: Classes

    def write(self, case: Case, labels: Volume) -> None:
        """Never raises: a picture is not worth a mask, and a warning says why there is none."""
        try:
            scan = aligned(read_image(case.files()[0]), labels)
            masked = MaskedScan(labels.grid, scan.array[0], labels.array)
            _save(cut_slices(case.case_id, masked, self.classes), self.folder, case.case_id)
        except Exception as error:
            log.warning("%s: no picture of its mask could be drawn: %s", case.case_id, error)


def draw_evaluated(
    job: EvaluateJob,
    evaluations: Sequence[Evaluation],
    scans: Path | None,
    workers: int,
    progress: Progress = silent,
) -> list[str]:
    """Draw every mask that was scored, in a folder beside the masks; what could not be done.

    Scans are those of a folder, or of a data set's folder beside the references; where there is
    none, outlines are drawn alone. Raises AutosegError where no folders of masks were given.
    """
    if job.references is None:
        raise AutosegError(
            "--pictures draws folders of masks. What folds held out is in the page that "
            "`autoseg report` writes."
        )
    labels = _labels_of(job, job.references)
    found = find_scans(job.references, scans)
    notes = []
    for predictions, evaluation in zip(job.predictions, evaluations, strict=True):
        folder = predictions if predictions.is_dir() else predictions.parent
        numbered = labels is not None and labels.instances
        classes = classes_of(labels, evaluation.classes)
        pairs = pair_masks(predictions, job.references).pairs
        items = {
            case_id: (
                Pictured(case_id, mask, found.get(case_id), reference, classes, numbered),
                folder / PICTURES,
            )
            for case_id, (mask, reference) in pairs.items()
        }
        outcomes = map_cases(_draw, items, workers, progress, "drawing pictures")
        notes += [note for note in outcomes.values() if note is not None]
        if blank := pairs.keys() - found.keys():
            notes.append(
                f"{len(blank)} of {len(pairs)} pictures show outlines alone, since their scans "
                "were not found; --scans DIR says where they are"
            )
    return notes


def _labels_of(job: EvaluateJob, references: Path) -> LabelScheme | None:
    if job.labels:
        return read_labels_of(job.labels).labels
    declared = find_labels(job.predictions[0], references, job.work)
    return None if declared is None else declared.labels


def find_scans(references: Path, scans: Path | None) -> Mapping[str, Path]:
    """The first channel of each case in a folder, or in those of a data set beside its labels."""
    beside = references.resolve() if references.is_dir() else references.resolve().parent
    folders = [scans] if scans else [beside.parent / name for name in IMAGE_FOLDERS]
    if scans is None and beside.name not in REFERENCE_FOLDERS:
        return {}
    found: dict[str, Path] = {}
    for folder in folders:
        groups, others = group_channels(image_files(folder))
        found |= {stem(path): path for path in others}
        found |= {case_id: channels[min(channels)] for case_id, channels in groups.items()}
    return found


def _draw(item: tuple[Pictured, Path]) -> str | None:
    """Draw one case in a worker process; why it could not be."""
    pictured, folder = item
    try:
        _save(read_mosaic(pictured), folder, pictured.title)
    except Exception as error:
        return f"{pictured.title}: no picture could be drawn: {error}"
    return None


def _save(slices: MosaicSlices, folder: Path, case_id: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{case_id}.png", synced=False) as temporary:
        temporary.write_bytes(draw_mosaic(slices))
