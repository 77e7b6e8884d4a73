"""What is written of a segmented scan: its mask, and what is asked for besides."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.errors import AutosegError
from autoseg.images.volume import write_image, write_labels
from autoseg.pipeline.objects import find_objects
from autoseg.pipeline.other_formats import OtherFormats, OtherWriter
from autoseg.postprocessing.instances import InstanceRule
from autoseg.postprocessing.sureness import ObjectSureness
from autoseg.records import Record, save_json
from autoseg.work_folder import INSTANCES, PROVENANCE, mask_path

if TYPE_CHECKING:
    from autoseg.inference.maps import RequestedMaps
    from autoseg.inference.predictor import Segmentation
    from autoseg.inference.provenance import Provenance
    from autoseg.pipeline.pictures import PictureWriter

UNCERTAINTY, PROBABILITIES = "uncertainty", "probabilities"


class Extras(Record):
    """What to write besides masks, each in a folder of its own beside them."""

    uncertainty: bool = False
    probabilities: bool = False
    instances: InstanceRule | None = None
    pictures: bool = False
    other_formats: OtherFormats = OtherFormats()


MASKS_ALONE = Extras()


@dataclass(frozen=True, slots=True)
class MaskWriter:
    """Writes what a scan's segmentation holds to a folder; the mask, which marks it done, last."""

    folder: Path
    extras: Extras = MASKS_ALONE
    pictures: "PictureWriter | None" = None
    others: OtherWriter | None = None
    labels: LabelScheme | None = None  # what values are called, and which are of things
    sureness: ObjectSureness | None = None  # of objects, by their scores

    def requested(self, case_id: str) -> "RequestedMaps":
        from autoseg.inference.maps import RequestedMaps

        needed = self.extras.probabilities or self.extras.other_formats.need_probabilities
        return RequestedMaps(
            uncertainty=self.extras.uncertainty,
            objects=self.extras.instances is not None,
            probability_file=self._probability_file(case_id) if needed else None,
        )

    def _probability_file(self, case_id: str) -> Path:
        return self.folder / PROBABILITIES / f"{case_id}.npz"

    def write(self, case: Case, segmentation: "Segmentation") -> None:
        case_id = case.case_id
        maps = {"entropy": segmentation.entropy, "disagreement": segmentation.disagreement}
        for name, values in maps.items():
            if values is not None:
                write_image(self.folder / UNCERTAINTY / f"{case_id}_{name}.nii.gz", values)
        if self.extras.instances is not None:
            numbers = self._write_instances(case, segmentation, self.extras.instances)
            if self.labels is not None and self.labels.instances:
                segmentation = _with_border(segmentation, numbers)
        if self.pictures is not None:
            self.pictures.write(case, segmentation.labels)
        if self.others is not None:
            probabilities = self._probability_file(case_id)
            self.others.write(case, segmentation, probabilities)
            if not self.extras.probabilities and self.others.wanted.need_probabilities:
                probabilities.unlink()
        write_labels(mask_path(self.folder, case_id), segmentation.labels)
        _append(self.folder / PROVENANCE, segmentation.provenance)

    def _write_instances(
        self, case: Case, segmentation: "Segmentation", rule: InstanceRule
    ) -> NDArray[np.unsignedinteger[Any]]:
        numbers, found = find_objects(segmentation, rule, self.labels, self.sureness)
        folder, case_id = self.folder / INSTANCES, case.case_id
        if self.others is not None:
            self.others.write_objects(case, segmentation, numbers, found)
        write_labels(mask_path(folder, case_id), replace(segmentation.labels, array=numbers))
        save_json([one.model_dump(mode="json") for one in found], folder / f"{case_id}.json")
        return numbers


def extras_of_things(extras: Extras, labels: LabelScheme, smallest_mm: float) -> Extras:
    """Objects are written of all models of things, and for COCO; they are told apart by the border
    that the network learned, where it learned one. How wide they are at least, where nobody
    says it, is the plan's. Raises AutosegError where what counts no objects shall be panoptic."""
    formats = extras.other_formats.formats
    if "panoptic" in formats and not labels.things:
        raise AutosegError(
            "--format panoptic: these models count no objects, and their masks tell the class of "
            "every voxel already. Leave it out, or train with `things` in dataset.json."
        )
    wanted = labels.things or "coco" in formats
    if extras.instances is None and not wanted:
        return extras
    rule = extras.instances or InstanceRule()
    if rule.smallest_mm is None:
        rule = rule.model_copy(update={"smallest_mm": smallest_mm})
    if labels.instances:
        rule = rule.with_border(labels.values[-1])
    return extras.model_copy(update={"instances": rule})


def _with_border(
    segmentation: "Segmentation", numbers: NDArray[np.unsignedinteger[Any]]
) -> "Segmentation":
    """A segmentation in which objects that were told apart without a border have that of references
    that number them; what is of no object stays as it is."""
    if segmentation.objects is None and segmentation.parting is None:
        return segmentation
    labels = segmentation.labels
    classes = instance_classes(numbers, labels.grid.spacing_mm)
    mask = np.where(numbers != 0, classes, labels.array)
    return replace(segmentation, labels=replace(labels, array=mask))


def _append(path: Path, provenance: "Provenance") -> None:
    """Add a line, at once and whole, since other processes may be adding theirs."""
    with path.open("a", encoding="utf-8") as file:
        file.write(provenance.model_dump_json() + "\n")
