"""Prepares arrays with nnU-Net v2's own preprocessor. Belongs to prepare_parity.py.

Called with the peer's Python and a folder of `<name>.npz` questions (image, label, and as JSON
spacing and plans); writes `<name>.answer.npz` with the prepared image and label.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = tempfile.mkdtemp()

import numpy as np  # noqa: E402
from nnunetv2.preprocessing.preprocessors.default_preprocessor import (  # noqa: E402
    DefaultPreprocessor,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402


def answer(path: Path) -> None:
    question = np.load(path)
    asked = json.loads(str(question["asked"]))
    plans = PlansManager(asked["plans"])
    image, label, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        question["image"],
        question["label"],
        {"spacing": asked["spacing"]},
        plans,
        plans.get_configuration("asked"),
        asked["dataset"],
    )
    np.savez(path.with_suffix(".answer.npz"), image=image, label=label)


for question_path in sorted(Path(sys.argv[1]).glob("*.npz")):
    answer(question_path)
