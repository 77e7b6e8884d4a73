"""What is asked of an evaluation is checked by name."""

import pytest

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.errors import AutosegError
from autoseg.evaluation.scoring import ALL_METRICS, chosen_metrics, tolerances_by_class

LABELS = LabelScheme(values=(0, 1, 4), names=("background", "liver", "tumour"))


def test_metrics_are_chosen_by_name_in_the_tables_order() -> None:
    assert chosen_metrics(["iou", "dice"]) == ("dice", "iou")
    assert chosen_metrics([]) == ALL_METRICS


def test_metrics_that_there_are_not_are_refused_with_the_nearest_all_at_once() -> None:
    with pytest.raises(AutosegError, match=r"(?s)dicee.*Is dice meant.*sensitivty.*sensitivity"):
        chosen_metrics(["dicee", "sensitivty"])


def test_tolerances_are_by_name_or_value_or_region() -> None:
    assert tolerances_by_class({"liver": 5, "4": 2}, LABELS, "here") == {"1": 5, "4": 2}
    regions = LABELS.model_copy(update={"regions": (Region(name="whole", values=(1, 4)),)})
    assert tolerances_by_class({"whole": 3}, regions, "here") == {"whole": 3}
    assert tolerances_by_class({"7": 3}, None, "here") == {"7": 3}


def test_tolerances_of_classes_that_there_are_not_are_refused() -> None:
    with pytest.raises(AutosegError, match=r"here: there is no class 'livr'\. Classes: liver, tum"):
        tolerances_by_class({"livr": 5}, LABELS, "here")
    with pytest.raises(AutosegError, match=r"liver is no label value, and the names .* not known"):
        tolerances_by_class({"liver": 5}, None, "here")
