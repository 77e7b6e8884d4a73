"""Lesion-wise scores by the code of the BraTS 2023 challenge. Belongs to metrics.py.

`brats_2023_metrics` is `metrics.py` of rachitsaluja/BraTS-2023-Metrics (43c9052), which that
challenge was ranked by, under another name; `surface_distance` is the folder beside it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from metric_objects import Function, TooLargeError  # isort: skip

ENHANCING = 3  # a value that all three of its tissues have
VOXELS = 8_000_000  # of which it dilates all for each lesion


class SingleSliceError(Exception):
    """Surfaces would be drawn above and below it."""


def replace_in_numbers(table: Any, old: float, new: float, inplace: bool = False) -> Any:
    """As pandas 1.3.4, which that code names, replaces: later ones fail at a column of arrays."""
    numbers = table.select_dtypes("number").columns
    changed = table if inplace else table.copy()
    changed[numbers] = changed[numbers].where(changed[numbers] != old, new)
    return None if inplace else changed


def brats_2023() -> dict[str, Function]:
    """Of gliomas. Its seconds are of three tissues, which are equal here, and of two files each."""
    import brats_2023_metrics
    import nibabel

    brats_2023_metrics.pd.DataFrame.replace = replace_in_numbers
    found: list[Any] = []  # of the last pair, so that both scores are of one run

    def results(prediction: Any, reference: Any, spacing: Any) -> Any:
        if not found or found[0] is not prediction:
            if prediction.ndim < 3:
                raise SingleSliceError
            if prediction.size > VOXELS:
                raise TooLargeError
            with tempfile.TemporaryDirectory() as folder:
                paths = []
                for name, mask in ("prediction", prediction), ("reference", reference):
                    paths.append(str(Path(folder) / f"{name}.nii"))
                    image = nibabel.Nifti1Image(np.uint8(mask) * ENHANCING, np.eye(4))
                    image.header.set_zooms(spacing)
                    nibabel.save(image, paths[-1])
                table = brats_2023_metrics.get_LesionWiseResults(*paths, "BraTS-GLI")
            found[:] = [prediction, table.set_index("Labels").loc["ET"]]
        return found[1]

    def of(column: str) -> Function:
        return lambda p, r, spacing, _: float(results(p, r, spacing)[column])

    return {
        "LesionWise_Score_Dice": of("LesionWise_Score_Dice"),
        "LesionWise_Score_HD95": of("LesionWise_Score_HD95"),
    }
