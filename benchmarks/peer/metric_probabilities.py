"""Scores of probabilities by torchmetrics. Belongs to metrics.py.

Functions get the probability of a class for the prediction, and the mask of the reference, both in
the box of either mask. Sums are in double precision, as it takes that of what it is given.
"""

from typing import Any

import numpy as np
from metric_objects import Function

BINS = 15


def torchmetrics_probabilities() -> dict[str, Function]:
    import torch
    from torchmetrics.functional import mean_squared_error
    from torchmetrics.functional.classification import binary_calibration_error

    def flat(values: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values).reshape(-1))

    def ece(probability: Any, reference: Any, _: Any, __: float) -> float:
        given = flat(probability.astype(np.float64)), flat(reference.astype(np.int64))
        return float(binary_calibration_error(*given, n_bins=BINS, norm="l1").item())

    def brier(probability: Any, reference: Any, _: Any, __: float) -> float:
        given = flat(probability.astype(np.float64)), flat(reference.astype(np.float64))
        return float(mean_squared_error(*given).item())

    return {"binary_calibration_error(n_bins=15)": ece, "mean_squared_error": brier}
