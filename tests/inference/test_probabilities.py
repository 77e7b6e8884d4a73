from pathlib import Path

import numpy as np

from autoseg.inference.probabilities import NAME, probability_file, rewrite_probabilities


def test_each_output_is_changed_in_its_place_whatever_shape_it_gets(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    stored = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float16)
    with probability_file(path, stored.shape) as file:
        file.array[:] = stored
    rewrite_probabilities(path, lambda output: np.pad(output[:, ::-1], ((1, 0), (0, 0), (0, 2))))
    with np.load(path) as found:
        changed = found[NAME]
    assert changed.dtype == np.float16
    np.testing.assert_array_equal(changed[:, 1:, :, :6], stored[:, :, ::-1])
    assert changed.shape == (3, 5, 5, 8) and not changed[:, 0].any()
