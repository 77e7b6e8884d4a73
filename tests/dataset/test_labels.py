import numpy as np
import pytest

from autoseg.dataset.labels import IGNORED, LabelScheme, instance_classes

SCHEME = LabelScheme(values=(0, 3, 7), names=("background", "liver", "tumour"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64])
def test_label_values_need_not_be_consecutive(dtype: type) -> None:
    labels: np.ndarray = np.array([[0, 7], [3, 7]], dtype)
    classes = SCHEME.encode(labels, (1, 1))
    np.testing.assert_array_equal(classes, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(SCHEME.decode(classes), labels)
    assert SCHEME.decode(classes).dtype == np.uint8


@pytest.mark.parametrize("value", [5, -1, -100, 65535, 65536 + 3, 2**31 + 7])
def test_undeclared_values_are_reported(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        SCHEME.encode(np.array([0, value, 7]), (1,))


def test_the_ignore_label_is_no_class() -> None:
    scheme = SCHEME.model_copy(update={"ignore": 9})
    assert scheme.encode(np.array([0, 9, 7]), (1,)).tolist() == [0, IGNORED, 2]
    assert (scheme.declared_count, scheme.output_count) == (4, 3)


def test_the_border_is_what_is_near_another_object() -> None:
    rows = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0, 3, 3, 0, 4, 4, 4]])
    expected = [[1, 1, 2, 2, 2, 2, 1, 0, 0, 1, 2, 0, 2, 1, 1]]
    assert instance_classes(rows, (1, 1)).tolist() == expected
    corners = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 2]])
    assert instance_classes(corners, (1, 1)).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    for spacing in ((0.5, 0.49), (5, 1)):
        found = instance_classes(np.repeat([[1] * 9 + [2] * 9], 3, axis=0), spacing)
        assert found[0].tolist() == [1] * 7 + [2] * 4 + [1] * 7
    slices = np.repeat([[[1] * 5 + [2] * 5]], 3, axis=1)  # one, whose own thickness says nothing
    for thickness in (1e-4, 1, 1000):
        found = instance_classes(slices, (thickness, 5, 5))
        assert found[0, 0].tolist() == [1] * 3 + [2] * 4 + [1] * 3


def test_across_thick_slices_only_what_touches_is_border() -> None:
    stack = np.array([1, 1, 1, 2, 2, 2, 0, 3, 3, 3])
    stack = np.broadcast_to(stack[:, None, None], (10, 4, 4))
    thick = instance_classes(stack, (3, 1, 1))[:, 0, 0].tolist()
    assert thick == [1, 1, 2, 2, 1, 1, 0, 1, 1, 1]
    assert instance_classes(stack, (1, 1, 1))[:, 0, 0].tolist() == [1, 2, 2, 2, 1, 1, 0, 2, 1, 1]


def test_no_object_is_all_border() -> None:
    rows = np.array([[1, 1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5]])
    found = instance_classes(rows, (1, 1))
    assert found.tolist() == [[1, 1, 2, 2, 1, 2, 1, 1, 2, 2, 1, 2, 2, 2, 1]]
