import numpy as np
import pytest
from scipy.special import expit
from scipy.special import logit as scipy_logit

from autoseg.postprocessing.quality import ClassQuality, QualityModel, judge


def quality(name: str = "liver", present_share: float = 1.0) -> ClassQuality:
    """Dice is soft Dice with odds of a fifth of its square, give or take a factor of e."""
    return ClassQuality(
        name=name,
        intercept=float(-np.log(5)),
        slope=2,
        error=0.03,
        error_spoilt=0.1,
        residuals_90=(-1, 1),
        usual=0.9,
        doubtful_below=0.8,
        present_share=present_share,
        cases=40,
    )


MODEL = QualityModel(classes=(quality(), quality("cyst", present_share=0.4)), folds=5)


def test_an_estimate_is_on_the_line_between_logits() -> None:
    found = quality().estimate([0.5, 0.9])  # odds 1 and 9
    np.testing.assert_allclose(found, [1 / 5 / (1 + 1 / 5), 81 / 5 / (1 + 81 / 5)])
    low, high = quality().interval(found)
    np.testing.assert_allclose(low, expit(scipy_logit(found) - 1))
    np.testing.assert_allclose(high, expit(scipy_logit(found) + 1))


def test_a_sure_mask_gives_no_warning() -> None:
    found, warnings = judge(MODEL, {"liver": 0.97, "cyst": None})
    assert warnings == ()
    assert found.classes["cyst"].dice is None
    assert found.against_usual == pytest.approx(
        (97 / 3) ** 2 / 5 / (1 + (97 / 3) ** 2 / 5) / 0.9, abs=1e-3
    )


def test_a_doubtful_mask_is_told_in_words() -> None:
    found, warnings = judge(MODEL, {"liver": 0.8, "cyst": None})
    assert found.classes["liver"].dice == pytest.approx(16 / 5 / (1 + 16 / 5), abs=1e-4)
    (warning,) = warnings
    assert warning.startswith("liver is likely to have a Dice of only 0.76 (0.54 to 0.90")


def test_a_class_that_scans_have_is_missed_and_another_is_not() -> None:
    found, warnings = judge(MODEL, {"liver": None, "cyst": 0.95})
    assert found.against_usual == 0
    assert warnings == (
        "liver was not found, though 100% of the held-out scans have it; check the scan",
    )


def test_classes_that_were_never_seen_are_left_out() -> None:
    found, warnings = judge(MODEL, {"spleen": 0.1})
    assert (found.classes, found.against_usual, warnings) == ({}, None, ())
