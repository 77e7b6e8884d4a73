"""Self-configuring segmentation of medical images: plan, train, predict.

    import autoseg

    autoseg.plan("dataset/")
    autoseg.train(fold=0, minutes=15)
    autoseg.predict(["in/"], "out/")
    predictor = autoseg.Predictor.load(["model.safetensors"])
    mask = predictor(autoseg.read_image("scan.nii.gz")).labels
    autoseg.write_labels("mask.nii.gz", mask)

Each name is loaded when it is first used. Rooms in the order in which data flow: images, dataset,
inspection, planning, preprocessing; then networks, tasks, augmentation, training, inference,
evaluation, reporting; pipeline calls them all.
"""

from typing import TYPE_CHECKING, Any

from autoseg.version import __version__

if TYPE_CHECKING:
    from autoseg.errors import AutosegError
    from autoseg.images.volume import Volume, read_image, read_labels, write_labels
    from autoseg.inference.predictor import Predictor
    from autoseg.pipeline.programs import evaluate, plan, predict, prepare, train

__all__ = [
    "AutosegError",
    "Predictor",
    "Volume",
    "__version__",
    "evaluate",
    "plan",
    "predict",
    "prepare",
    "read_image",
    "read_labels",
    "train",
    "write_labels",
]


def __getattr__(name: str) -> Any:
    if name in ("plan", "prepare", "train", "predict", "evaluate"):
        from autoseg.pipeline import programs

        return {
            "plan": programs.plan,
            "prepare": programs.prepare,
            "train": programs.train,
            "predict": programs.predict,
            "evaluate": programs.evaluate,
        }[name]
    if name in ("Volume", "read_image", "read_labels", "write_labels"):
        from autoseg.images import volume

        return {
            "Volume": volume.Volume,
            "read_image": volume.read_image,
            "read_labels": volume.read_labels,
            "write_labels": volume.write_labels,
        }[name]
    if name == "Predictor":
        from autoseg.inference.predictor import Predictor

        return Predictor
    if name == "AutosegError":
        from autoseg.errors import AutosegError

        return AutosegError
    raise AttributeError(f"autoseg has no {name}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
