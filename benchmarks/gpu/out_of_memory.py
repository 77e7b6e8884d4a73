"""Training and prediction on a GPU with far less memory than they ask for: they must end well."""

from collections.abc import Callable
from threading import Event
from typing import Any

import numpy as np
import torch

from autoseg.device import ran_out_of_memory
from autoseg.pipeline.fitting import Place, _fitted
from autoseg.planning.plan import Configuration
from autoseg.training import measure as measuring
from autoseg.training.trainer import train_model
from benchmarks.gpu.cases import ct_cases
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import labels_of, made_up, random_model, unet, with_training
from benchmarks.gpu.scans import predictor_of, segment
from benchmarks.gpu.trainings import Watch, on_cases

GIB = 2**30
SIDE, BATCH, STEPS = 128, 8, 4
SCAN_VOX, CLASSES = (200, 256, 256), 40
SMALL_SIDE, SMALL_SCAN_VOX, SMALL_CLASSES = 16, (20, 24, 24), 3


def measure(bench: Bench) -> None:
    """A CPU's memory cannot be limited so: there all of it runs, and is never short."""
    bench.note(training=training(bench))
    bench.note(prediction=prediction(bench))


def allow(memory_gib: float | None) -> None:
    """Limit what torch's allocator of this process may hold of a GPU."""
    if not torch.cuda.is_available():
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total_gib = torch.cuda.get_device_properties(0).total_memory / GIB
    share = 1.0 if memory_gib is None else memory_gib / total_gib
    torch.cuda.set_per_process_memory_fraction(share)


def in_this_process(work: Callable[..., Any], *given: Any) -> Any:
    """As training measures itself, but where the limit holds."""
    try:
        return work(*given)
    except RuntimeError as error:
        if ran_out_of_memory(error):
            torch.cuda.empty_cache()
            return None
        raise


def training(bench: Bench) -> dict[str, Any]:
    """A batch that does not fit is made smaller, and the training ends."""
    measuring._in_a_process = in_this_process
    patch_vox = (SMALL_SIDE if bench.small else SIDE,) * 3
    network = unet("plain_unet", patch_vox, 4 if bench.small else 32)
    plan = made_up(bench.plan()[1], network, patch_vox, batch_size=BATCH)
    peaks = [_peak_gib(bench, plan, batch_size) for batch_size in (2, BATCH)]
    limit_gib = (2 * peaks[0] + peaks[1]) / 3
    allow(limit_gib)
    run, _ = _fitted(plan, labels_of(2), Place(bench.device), limit_gib)
    allow(limit_gib)
    fitted = with_training(run.configuration, execution="eager", validation_iterations=1)
    folder = bench.scratch / "out_of_memory" / "training"
    watch = Watch()
    job = on_cases(fitted, ct_cases(bench), folder, bench.device, STEPS)
    _, position = train_model(job, watch, Event(), resume=False)
    found = {
        "peak_gib_of_batches_of_2_and_8": peaks,
        "limit_gib": limit_gib,
        "changes": run.changes,
        "iterations": position.iteration,
        "peak_gib": torch.cuda.max_memory_reserved() / GIB,
    }
    allow(None)
    return found


def _peak_gib(bench: Bench, plan: Configuration, batch_size: int) -> float:
    allow(None)
    tried = plan.model_copy(update={"run": plan.run.model_copy(update={"batch_size": batch_size})})
    peak_gib = measuring._run_steps(tried, labels_of(2), bench.device).peak_memory_gib
    assert peak_gib is not None
    return peak_gib


def prediction(bench: Bench) -> dict[str, Any]:
    """Logits of many classes fit at first, then less and less does; masks stay the same."""
    patch_vox = (SMALL_SIDE if bench.small else 64,) * 3
    network = unet("plain_unet", patch_vox, 4 if bench.small else 16)
    classes = SMALL_CLASSES if bench.small else CLASSES
    plan = made_up(bench.plan()[1], network, patch_vox, classes)
    model, _ = random_model(bench.scratch / "out_of_memory" / "model", plan)
    shape_vox = (1, *(SMALL_SCAN_VOX if bench.small else SCAN_VOX))
    image = np.random.default_rng(0).normal(size=shape_vox).astype(np.float32)
    predictor = predictor_of(model, bench.device)
    allow(None)
    whole = segment(predictor, image)
    peak_gib = torch.cuda.max_memory_reserved() / GIB
    found: dict[str, Any] = {"peak_gib": peak_gib}
    for share in (0.7, 0.4, 0.2):
        allow(share * peak_gib)
        try:
            maps = segment(predictor, image)
        except Exception as error:
            found[f"with {share:.0%}"] = f"failed: {error!r}"
            continue
        found[f"with {share:.0%}"] = {
            "warnings": maps.warnings,
            "same_labels": float(np.mean(maps.classes == whole.classes)),
            "peak_gib": torch.cuda.max_memory_reserved() / GIB,
        }
    allow(None)
    return found
