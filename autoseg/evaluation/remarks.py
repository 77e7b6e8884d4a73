"""What a reader of scores should know about the files that they are of."""

from collections.abc import Iterator

from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.scored_case import ScoredCase

CASES_NAMED = 3


def remarks_on(scored: dict[str, ScoredCase], labels: LabelScheme | None) -> Iterator[str]:
    """What was assumed, or cannot be known from the files alone."""
    if turned := [case_id for case_id, case in scored.items() if case.turned]:
        yield (
            f"{_named(turned)}: mask and reference cover the same voxels in another order of axes; "
            "the mask was turned"
        )
    if assumed := [case_id for case_id, case in scored.items() if case.assumed]:
        yield (
            f"{_named(assumed)}: mask or reference does not state where it lies; they are taken to "
            "lie alike, voxel by voxel"
        )
    predicted = frozenset[int]().union(*(case.predicted_values for case in scored.values()))
    reference = frozenset[int]().union(*(case.reference_values for case in scored.values()))
    highest = max(reference, default=0)
    if labels is None and highest not in predicted and len(reference - {0}) > 1:
        yield (
            f"value {highest} is in references, but in no mask. If it marks voxels that nobody "
            f'annotated, declare it among the labels of a dataset.json, as "ignore": {highest}, '
            "and give that file with --labels"
        )
    if labels is None or labels.instances:
        return
    unknown = sorted((predicted | reference) - {*labels.values, labels.ignore})
    if unknown:
        shown = ", ".join(str(value) for value in unknown[:10])
        yield f"values {shown} are in the files, but are not declared, and are not scored"


def _named(cases: list[str]) -> str:
    """The first few of some cases, and how many more there are."""
    more = f" and {len(cases) - CASES_NAMED} more" if len(cases) > CASES_NAMED else ""
    return f"{', '.join(cases[:CASES_NAMED])}{more}"
