"""Selects with nnU-Net v2's own find_best_configuration. Belongs to selection_parity.py.

Called with the peer's Python: nnunet_select.py ROOT, where ROOT holds raw, preprocessed and
results, and job.json: a list of dataset, configurations and folds. What it returns is written to
ROOT/<dataset>.json. All of it runs in this process: starting others takes minutes for each dataset.
"""

import json
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(sys.argv[1])
for variable in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{variable}"] = str(ROOT / variable)


class Serial:
    """A pool of processes that is none."""

    def __enter__(self) -> "Serial":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def starmap(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> list[Any]:
        return [function(*item) for item in items]


multiprocessing.get_context = lambda kind: SimpleNamespace(Pool=lambda count: Serial())  # type: ignore

from nnunetv2.evaluation.find_best_configuration import find_best_configuration  # noqa: E402
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: E402


def main() -> None:
    for job in json.loads((ROOT / "job.json").read_text()):
        for probabilities in (ROOT / "results" / job["dataset"]).rglob("fold_*/validation/*.npz"):
            _, properties = SimpleITKIO().read_seg(str(probabilities.with_suffix(".nii.gz")))
            probabilities.with_suffix(".pkl").write_bytes(pickle.dumps(properties))
        models = [
            {"plans": "nnUNetPlans", "configuration": name, "trainer": "nnUNetTrainer"}
            for name in job["configurations"]
        ]
        print(job["dataset"], file=sys.stderr, flush=True)
        found = find_best_configuration(
            job["dataset"], models, num_processes=1, folds=tuple(job["folds"])
        )
        best = found["best_model_or_ensemble"]
        folder = Path(best["postprocessing_file"]).parent
        written = json.loads((folder / "postprocessing.json").read_text())
        answer = {
            "results": found["all_results"],
            "folder": str(folder),
            "steps": [kwargs["labels_or_regions"] for kwargs in written["postprocessing_kwargs"]],
        }
        (ROOT / f"{job['dataset']}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
