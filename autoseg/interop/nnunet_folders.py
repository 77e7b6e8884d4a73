"""Folders and zips of trained nnU-Net models, and what is in their checkpoints."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from autoseg.errors import AutosegError

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
# What a checkpoint may hold besides tensors, numbers and strings: numpy's scalars.
NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]
SCALARS: list[Any] = [
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
]


@dataclass(frozen=True, slots=True)
class TrainedFolder:
    """A folder `{Trainer}__{Plans}__{configuration}` with its folds' checkpoints."""

    path: Path
    checkpoints: tuple[Path, ...]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises AutosegError when it holds anything that could be run."""
    try:
        with torch.serialization.safe_globals(SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise AutosegError(
            f"{path.name} is no checkpoint that can be read safely; it is damaged, or holds what "
            f"would be run ({type(error).__name__}: {reason})."
        ) from None
    if not isinstance(content, dict) or "network_weights" not in content:
        raise AutosegError(f"{path.name} is no checkpoint of nnU-Net v2.")
    return content


def trained_folders(root: Path) -> Iterator[TrainedFolder]:
    """All that lie in a folder, at any depth, in the order of their paths."""
    for plans in sorted(root.rglob("plans.json")):
        folder = plans.parent
        folds = sorted(folder.glob("fold_*"))
        checkpoints = [
            next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None)
            for fold in folds
        ]
        found = tuple(path for path in checkpoints if path is not None)
        if found and (folder / "dataset.json").is_file():
            yield TrainedFolder(folder, found)


def stems(folders: Sequence[TrainedFolder], root: Path) -> list[str]:
    """Names for the folders' models: the configuration's, or more of the path where some agree."""
    trained = [folder.path.name for folder in folders]
    whole = [
        "__".join(folder.path.relative_to(root).parts) or folder.path.name for folder in folders
    ]
    for names in ([name.rpartition("__")[2] for name in trained], trained):
        if len(set(names)) == len(names):
            return names
    return whole


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The folder itself, or a temporary one with all that a zip holds.

    Raises AutosegError when it is neither or damaged, or has an entry that would be written
    elsewhere.
    """
    if source.is_dir():
        yield source
        return
    if not source.exists():
        raise AutosegError(
            f"{source}: there is no such folder or zip file. Give a folder of nnUNet_results, or "
            "a zip of it."
        )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / source.stem
        try:
            _extract(source, root)
        except zipfile.BadZipFile as error:
            raise AutosegError(
                f"{source}: no zip file, or damaged ({error}). Copy it anew, or give a folder."
            ) from None
        yield root


def _extract(source: Path, root: Path) -> None:
    """Extract a zip. Raises AutosegError when an entry would be written elsewhere."""
    with zipfile.ZipFile(source) as archive:
        for entry in archive.namelist():
            path = PurePosixPath(entry.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in entry:
                raise AutosegError(
                    f"{source}: its entry {entry} leaves the folder that it is unpacked into. Do "
                    "not trust this file."
                )
        archive.extractall(root)
