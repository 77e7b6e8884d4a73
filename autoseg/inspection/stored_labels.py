"""Label maps that were saved lossily: as JPEG, interpolated, or stretched to a picture's range."""

from collections.abc import Iterator, Sequence

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem

LOSSY_ENDINGS = (".jpg", ".jpeg")
FULL_RANGES = (255, 65535)  # what pictures of 8 and 16 bits are stretched to
SMALLEST_FACTOR = 10  # of labels that were multiplied to be seen; less may be another class


def lossy_labels(dataset: Dataset, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Why label maps of a dataset cannot be what was drawn; `problems` are those of its cases."""
    cases = [*dataset.cases, *dataset.test_cases]
    labels = [case.label for case in cases if case.label is not None]
    stored = [path for path in labels if path.name.lower().endswith(LOSSY_ENDINGS)]
    if stored:
        yield Problem(
            kind="lossy_label",
            case_id=None,
            file=str(stored[0]),
            what=f"{_others(len(stored))} JPEG, which changes the values near every edge.",
            fix="Save the labels anew as PNG or NIfTI from where they were drawn; converting these "
            "does not bring the values back.",
        )
    fractions = [p.file for p in problems if p.kind == "fractional_label"]
    if fractions:
        yield Problem(
            kind="lossy_label",
            case_id=None,
            file=fractions[0],
            what=f"{_others(len(fractions))} no whole numbers, as after resampling with "
            "interpolation.",
            fix="Resample the labels with nearest neighbours, or save them as integers if they "
            "were whole.",
        )


def rescaling(values: Sequence[int], scheme: LabelScheme) -> str:
    """What values that are not declared look like, to be put behind a list of them; or nothing.

    Pictures are often stretched so that the highest label is white: 0, 127, 255 for 0, 1, 2.
    """
    classes = [value for value in scheme.values if value > 0]
    if not classes or not values or scheme.instances:
        return ""
    highest = max(classes)
    for full in FULL_RANGES:
        stretched = [value * full / highest for value in classes]
        if highest < full and all(any(abs(v - s) < 1 for s in stretched) for v in values):
            factor = f"{full}" if highest == 1 else f"{full}/{highest}"
            return f"; they look like labels multiplied by {factor}, to be seen as a picture"
    step = min(values) / min(classes)
    if len(values) > 1 and step >= SMALLEST_FACTOR and {v / step for v in values} <= set(classes):
        return f"; they look like labels multiplied by {step:.4g}, to be seen as a picture"
    return ""


def _others(count: int) -> str:
    if count == 1:
        return "is"
    return f"and {count - 1} other label {'map' if count == 2 else 'maps'} are"
