"""What is asked of an evaluation: which metrics, counted how, and whose the cases are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.mask_pair import Convention
from autoseg.evaluation.metrics import METRICS

ALL_METRICS = tuple(METRICS)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Names in METRICS, the conventions, and patients by case id; a case that is not listed there
    is a patient of its own."""

    metrics: tuple[str, ...] = ALL_METRICS
    convention: Convention = field(default_factory=Convention)
    patients: Mapping[str, str] = field(default_factory=dict)


def chosen_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of some names, in the table's order; all without any.

    Raises AutosegError that names, for each one that there is not, the nearest that there is.
    """
    unknown = [name for name in names if name not in METRICS]
    raise_if_any([_unknown(name) for name in unknown], "There are no such metrics")
    return tuple(name for name in METRICS if name in names or not names)


def _unknown(name: str) -> str:
    close = get_close_matches(name, METRICS, n=1, cutoff=0.5)
    meant = f" Is {close[0]} meant?" if close else ""
    return f"--metrics {name}: there is no such metric.{meant} `--metrics list` shows them all."


def tolerances_by_class(
    given_mm: Mapping[str, float], labels: LabelScheme | None, where: str
) -> dict[str, float]:
    """Tolerances that are given by class name or value, by what scores are listed under.

    `where` says in messages where they were given. Raises AutosegError for a class that there is
    not.
    """
    keys = _classes(labels)
    if labels is None:
        keys = {name: name for name in given_mm if name.isdecimal()}
    unknown = [name for name in given_mm if name not in keys]
    if unknown and labels is None:
        raise AutosegError(
            f"{where}: {', '.join(unknown)} is no label value, and the names of classes are not "
            "known. Give values, or a dataset.json with the names by --labels."
        )
    known = ", ".join(keys)
    raise_if_any(
        [f"{where}: there is no class {name!r}. Classes: {known}." for name in unknown],
        "Tolerances of classes that there are not",
    )
    return {keys[name]: float(given_mm[name]) for name in given_mm}


def _classes(labels: LabelScheme | None) -> dict[str, str]:
    """What scores are listed under, by every way to name it."""
    if labels is None:
        return {}
    if labels.regions:
        return {region.name: region.name for region in labels.regions}
    named = list(zip(labels.values[1:], labels.names[1:], strict=True))
    return {name: str(value) for value, name in named} | {str(v): str(v) for v, _ in named}
