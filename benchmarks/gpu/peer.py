"""nnU-Net v2 itself, for the parts that compare: `python -m benchmarks.gpu.peer WHAT ANSWER ...`.

WHAT is a function below, ANSWER the JSON file that it writes, then come torch's device and what the
function takes. Belongs to part.py, which puts nnU-Net's packages on the path.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDERS = Path(tempfile.mkdtemp())
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = str(FOLDERS / variable)
# Its modules name it at their beginning, and nothing here reads a file with it.
sys.modules.setdefault("SimpleITK", ModuleType("SimpleITK"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference.export_prediction import (  # noqa: E402
    convert_predicted_logits_to_segmentation_with_correct_shape as to_mask,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.training.dataloading.nnunet_dataset import (  # noqa: E402
    comp_blosc2_params,
    nnUNetDatasetBlosc2,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

CONFIGURATION = "3d_fullres"
KIB_PER_GIB = 2**20


def trainer_of(model: Path, device: torch.device) -> nnUNetTrainer:
    plans = json.loads((model / "plans.json").read_text()) | {"continue_training": False}
    description = json.loads((model / "dataset.json").read_text())
    return nnUNetTrainer(plans, CONFIGURATION, "all", description, device)


def prepared_folder(trainer: nnUNetTrainer) -> Path:
    folder = Path(trainer.preprocessed_dataset_folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def steps(device: torch.device, model: str, count: str, warm_up: str) -> dict[str, Any]:
    """Its own `train_step`, compiled as it is by default, of one batch that is there already."""
    trainer = trainer_of(Path(model), device)
    (prepared_folder(trainer) / "case.b2nd").touch()  # by which it finds the kind of files
    started = time.perf_counter()
    trainer.initialize()
    patch = trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales()
    image = torch.randn(trainer.batch_size, 1, *patch, device=device)
    sizes = [[round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in scales]
    target = [
        torch.randint(0, 2, (trainer.batch_size, 1, *size), device=device).short() for size in sizes
    ]
    trainer.network.train()
    for _ in range(int(warm_up)):
        trainer.train_step({"data": image, "target": target})
    began_s = time.perf_counter() - started
    ms = _timed_ms(lambda: trainer.train_step({"data": image, "target": target}), int(count))
    return {"step_ms": ms, "until_steps_s": round(began_s, 1), **memory()}


def epoch(device: torch.device, model: str, cases: str, count: str, warm: str) -> dict[str, Any]:
    """Its own loader, augmentation and steps, of the same voxels, stored as it stores them."""
    trainer = trainer_of(Path(model), device)
    folder = prepared_folder(trainer)
    patch = tuple(trainer.configuration_manager.patch_size)
    for path in sorted(Path(cases).glob("*.prepared")):
        store(path, folder, patch)
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.network.train()
    waited = []

    def step() -> None:
        asked = time.perf_counter()
        batch = next(trainer.dataloader_train)
        waited.append(time.perf_counter() - asked)
        trainer.train_step(batch)

    for _ in range(int(warm)):
        step()
    waited.clear()
    ms = _timed_ms(step, int(count) - int(warm))
    waited_ms = round(1000 * float(np.mean(waited)), 2)
    return {"step_ms": ms, "waited_for_batches_ms": waited_ms, **memory()}


def store(source: Path, folder: Path, patch: tuple[int, ...]) -> None:
    """A prepared case as nnU-Net stores it."""
    from autoseg.preprocessing.store import open_case

    case = open_case(source)
    image, seg = case.image[:].astype(np.float32), case.label[:][None].astype(np.int8)
    voxels = case.class_locations[1]
    found = np.stack([voxels[i] for i in range(min(len(voxels), 10_000))]).astype(int)
    locations = {1: np.concatenate([np.zeros((len(found), 1), int), found], 1)}
    blocks, chunks = comp_blosc2_params(image.shape, patch, image.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(image.shape, patch, seg.itemsize)
    nnUNetDatasetBlosc2.save_case(
        image, seg, {"class_locations": locations}, str(folder / source.stem),
        chunks=chunks, blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg,
    )  # fmt: skip


def predict(device: torch.device, model: str, image: str, mask: str) -> dict[str, Any]:
    """Its sliding window, and its export without the file."""
    predictor = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, (0,), "checkpoint_final.pth")
    voxels = torch.from_numpy(np.load(image))
    patch = predictor.configuration_manager.patch_size
    predictor.predict_logits_from_preprocessed_data(voxels[:, : patch[0]])  # finds algorithms
    started = time.perf_counter()
    logits = predictor.predict_logits_from_preprocessed_data(voxels)
    networks_s = time.perf_counter() - started
    shape = tuple(voxels.shape[1:])
    properties = {
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, n] for n in shape],
    }
    found = to_mask(
        logits, predictor.plans_manager, predictor.configuration_manager, predictor.label_manager,
        properties,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    np.save(mask, found)
    return {"seconds": round(seconds, 2), "networks_s": round(networks_s, 2), **memory()}


def _timed_ms(step: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return round(1000 * (time.perf_counter() - started) / count, 2)


def memory() -> dict[str, float]:
    found = {"host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB}
    if torch.cuda.is_available():
        found["gpu_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return {name: round(value, 2) for name, value in found.items()}


WHAT: dict[str, Callable[..., dict[str, Any]]] = {
    "steps": steps,
    "epoch": epoch,
    "predict": predict,
}


def main() -> None:
    what, answer, device, *words = sys.argv[1:]
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    found = WHAT[what](torch.device(device), *words)
    Path(answer).write_text(json.dumps(found))
    os._exit(0)  # its augmentation processes do not end by themselves


if __name__ == "__main__":  # it starts processes anew
    main()
