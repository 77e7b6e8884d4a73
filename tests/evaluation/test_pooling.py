from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.pooling import pool_folds
from autoseg.evaluation.scoring import Scoring
from autoseg.images.in_memory import volume_of_array
from autoseg.images.volume import write_labels

LABELS = LabelScheme(values=(0, 1, 2), names=("background", "organ", "tumour"))
PATIENTS = {f"case_{i}": f"patient_{i // 2}" for i in range(6)}


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """Six cases of random masks; class 2 is missed in the first, and hallucinated in the last."""
    rng = np.random.default_rng(0)
    for case in range(6):
        for part in ("mask", "truth"):
            labels = rng.integers(0, 3, (3, 8, 8)).astype(np.uint8)
            if (case, part) in ((0, "mask"), (5, "truth")):
                labels[labels == 2] = 0
            volume = volume_of_array(labels[None].astype(np.float32), spacing_mm=(1, 1, 1))
            write_labels(
                tmp_path / f"{part}_{case}.nii.gz",
                type(volume)(labels, volume.grid, volume.nifti_header),
            )
    return {
        f"case_{i}": (tmp_path / f"mask_{i}.nii.gz", tmp_path / f"truth_{i}.nii.gz")
        for i in range(6)
    }


def test_folds_together_are_what_all_their_cases_are(
    pairs: dict[str, tuple[Path, Path]],
) -> None:
    together = evaluate_pairs(pairs, LABELS, 1, scoring=Scoring(patients=PATIENTS))
    names = list(pairs)
    folds = [
        evaluate_pairs({name: pairs[name] for name in part}, LABELS, 1)
        for part in (names[:2], names[2:])
    ]
    assert folds[0].pooled_intervals["1"]
    pooled = pool_folds(folds, PATIENTS)
    assert not pooled.pooled_intervals and not pooled.mean_pooled_intervals  # of no single fold
    assert pooled.cases == together.cases
    assert pooled.counts == together.counts
    assert (pooled.counts["2"].missed, pooled.counts["2"].hallucinated) == (1, 1)
    assert pooled.statistics == together.statistics
    assert pooled.mean_statistics == together.mean_statistics
