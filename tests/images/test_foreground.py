import numpy as np
from scipy import ndimage

from autoseg.images.foreground import bounding_box, nonzero_mask


def test_holes_are_filled_as_scipy_does() -> None:
    image = np.zeros((2, 12, 14, 16), np.float32)
    image[0, 2:10, 3:11, 4:12] = 5
    image[0, 4:7, 5:8, 6:9] = 0
    image[1, 1, 1, 1] = -1
    expected = ndimage.binary_fill_holes((image != 0).any(0))
    np.testing.assert_array_equal(nonzero_mask(image), expected)


def test_the_box_is_that_of_scipy() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 2, 4:6] = True
    assert bounding_box(mask).slices == ndimage.find_objects(mask.astype(int))[0]


def test_an_empty_mask_has_the_whole_array_as_its_box() -> None:
    assert bounding_box(np.zeros((5, 6, 7), bool)).shape == (5, 6, 7)
