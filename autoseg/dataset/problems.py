"""What can be wrong with a dataset, and how bad that is."""

from collections.abc import Iterable
from typing import Literal

from autoseg.errors import raise_if_any
from autoseg.records import Record

ERRORS_SHOWN = 20

Severity = Literal["error", "warning", "note"]

# What can be wrong with a dataset. Errors stop planning; `check` reports all of them.
PROBLEMS: dict[str, Severity] = {
    "naming": "error",
    "description": "warning",
    "file_ending": "warning",
    "other_ending": "error",
    "no_cases": "error",
    "region_order": "error",
    "region_overlap": "warning",
    "folds": "error",
    "patient_in_both_parts": "warning",
    "patients_by_name": "note",
    "patients_not_stated": "warning",
    "rare_class": "warning",
    "all_ignored": "warning",
    "unused_file": "warning",
    "missing_file": "error",
    "unreadable": "error",
    "not_finite": "error",
    "grid_mismatch": "error",
    "channel_count": "error",
    "fractional_label": "error",
    "undeclared_label": "error",
    "unit": "warning",
    "transforms_disagree": "warning",
    "no_orientation": "warning",
    "header": "warning",
    "trailing_bytes": "warning",
    "photometric": "warning",
    "orientation_tag": "warning",
    "turned_label": "warning",
    "extreme_spacing": "warning",
    "constant_image": "warning",
    "empty_label": "warning",
    "unused_label": "warning",
    "objects": "error",
    "empty_object": "warning",
    "object_in_pieces": "warning",
    "object_of_two_classes": "warning",
    "object_of_one_voxel": "warning",
    "object_without_class": "warning",
    "object_beyond_its_class": "warning",
    "thing_without_number": "warning",
    "duplicate": "warning",
    "patient_in_train_and_test": "warning",
    "outlier": "warning",
    "channel_values": "warning",
    "lossy_label": "error",
    "channel_assumed": "note",
    "left_right": "note",
    "left_out": "note",
    "taken": "note",
    "resampled_channel": "warning",
    "missing_slices": "warning",
    "doubled_slices": "warning",
    "overlap": "warning",
    "stray_contours": "warning",
    "unused_segment": "warning",
}


class Problem(Record):
    """One thing that is wrong with a dataset: whose, where, what, and how to put it right."""

    kind: str
    case_id: str | None
    file: str | None
    what: str
    fix: str

    @property
    def severity(self) -> Severity:
        return PROBLEMS[self.kind]

    def message(self) -> str:
        """The whole of it in one sentence or two."""
        where = ": ".join(part for part in (self.case_id, self.file) if part)
        return f"{where}: {self.what} {self.fix}" if where else f"{self.what} {self.fix}"


def raise_errors(problems: Iterable[Problem], headline: str) -> None:
    """Raise one AutosegError that lists the problems that are errors; very many are cut short."""
    errors = [p.message() for p in problems if p.severity == "error"]
    if len(errors) > ERRORS_SHOWN:
        headline = f"{headline}: {len(errors)} errors; `autoseg check` lists them all"
    raise_if_any(errors[:ERRORS_SHOWN], headline)
