import numpy as np
import pytest

from autoseg.dataset import LabelScheme

SCHEME = LabelScheme(values=(0, 3, 7), names=("background", "liver", "tumour"))


def test_label_values_need_not_be_consecutive() -> None:
    labels = np.array([[0, 7], [3, 7]])
    classes = SCHEME.encode(labels)
    np.testing.assert_array_equal(classes, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(SCHEME.decode(classes), labels)
    assert SCHEME.decode(classes).dtype == np.uint8


def test_undeclared_values_are_reported() -> None:
    with pytest.raises(ValueError, match="5"):
        SCHEME.encode(np.array([0, 5, 7]))
