from math import prod

import numpy as np

from autoseg.planning.query_cells import cells_over


def test_cells_are_about_as_wide_along_all_axes() -> None:
    assert cells_over((64, 128), 200) == (10, 20)
    assert cells_over((60, 60, 3), 30) == (5, 6, 1)
    rng = np.random.default_rng(0)
    for extent in rng.uniform(1, 300, (50, 3)):
        assert 20 <= prod(cells_over(extent.tolist(), 20)) <= 30
