import numpy as np
import pytest

from autoseg.dataset.labels import IGNORED, LabelScheme, instance_classes

SCHEME = LabelScheme(values=(0, 3, 7), names=("background", "liver", "tumour"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64])
def test_label_values_need_not_be_consecutive(dtype: type) -> None:
    labels: np.ndarray = np.array([[0, 7], [3, 7]], dtype)
    classes = SCHEME.encode(labels)
    np.testing.assert_array_equal(classes, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(SCHEME.decode(classes), labels)
    assert SCHEME.decode(classes).dtype == np.uint8


@pytest.mark.parametrize("value", [5, -1, -100, 65535, 65536 + 3, 2**31 + 7])
def test_undeclared_values_are_reported(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        SCHEME.encode(np.array([0, value, 7]))


def test_the_ignore_label_is_no_class() -> None:
    scheme = SCHEME.model_copy(update={"ignore": 9})
    assert scheme.encode(np.array([0, 9, 7])).tolist() == [0, IGNORED, 2]
    assert (scheme.declared_count, scheme.output_count) == (4, 3)


def test_only_faces_shared_with_another_object_are_border() -> None:
    objects = np.array([[1, 1, 2], [0, 1, 0], [3, 0, 0]])
    assert instance_classes(objects).tolist() == [[1, 2, 2], [0, 1, 0], [1, 0, 0]]
