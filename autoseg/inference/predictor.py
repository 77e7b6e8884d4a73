"""From a scan to its segmentation, with models loaded once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoseg import __version__
from autoseg.checkpoint import ModelCard, load_model
from autoseg.errors import AutosegError
from autoseg.export.restore import restore_classes
from autoseg.geometry import Placement
from autoseg.inference.device import Device, choose_device
from autoseg.inference.engines import ENGINES, EngineName
from autoseg.inference.sliding_window import Engine, predict_logits
from autoseg.preprocessing.prepare import prepare_scan
from autoseg.records import Record
from autoseg.volume import Volume

SPACING_RATIO_WARNED = 2.0  # against the plan's target spacing


class Provenance(Record):
    """Where a mask came from."""

    case_id: str
    scan: str  # blake2b of the scan's voxels
    models: tuple[str, ...]  # blake2b of each model file
    autoseg_version: str
    engine: EngineName
    device: str
    bf16: bool
    mirror_axes: tuple[int, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Labels [z, y, x] with the values of the training files, on the scan's own grid."""

    labels: Volume
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Predictor:
    """Models of one configuration, averaged."""

    card: ModelCard
    engine: Engine
    device: Device
    model_hashes: tuple[str, ...]

    @classmethod
    def load(cls, paths: Sequence[Path]) -> "Predictor":
        """Load model files. Raises AutosegError when they are not of one configuration."""
        device = choose_device()
        loaded = [load_model(path) for path in paths]
        first = loaded[0][0]
        for path, (card, _) in zip(paths, loaded, strict=True):
            if (card.configuration, card.labels, card.channel_names) != (
                first.configuration,
                first.labels,
                first.channel_names,
            ):
                raise AutosegError(
                    f"{path} and {paths[0]} are of different configurations and cannot be "
                    "averaged. Give models of one plan and configuration."
                )
        configuration = first.configuration
        networks = [network for _, network in loaded]
        return cls(
            card=first,
            engine=ENGINES["torch"](
                networks,
                configuration.spatial_dims,
                configuration.inference.mirror_axes,
                device.torch_device,
                device.bf16,
            ),
            device=device,
            model_hashes=tuple(_hash(path.read_bytes()) for path in paths),
        )

    def __call__(self, scan: Volume, case_id: str) -> Segmentation:
        """Segment one scan. Raises AutosegError when its number of channels is not the model's."""
        expected = self.card.channel_names
        if scan.array.shape[0] != len(expected):
            raise AutosegError(
                f"{case_id}: has {scan.array.shape[0]} channels, but the model needs "
                f"{len(expected)}: {', '.join(expected)}. Give one file per channel, named "
                "<case>_0000, <case>_0001 and so on."
            )
        configuration = self.card.configuration
        prepared = prepare_scan(scan.array, None, scan.grid, configuration, case_id)
        image = torch.from_numpy(prepared.image).to(self.device.torch_device)
        slabs = predict_logits(
            image, self.engine, configuration.patch_box_vox, configuration.inference
        )
        classes = restore_classes(slabs, prepared.placement, configuration.resampling)
        labels = self.card.labels.decode(classes)
        provenance = Provenance(
            case_id=case_id,
            scan=_hash(np.ascontiguousarray(scan.array).data),
            models=self.model_hashes,
            autoseg_version=__version__,
            engine="torch",
            device=str(self.device.torch_device),
            bf16=self.device.bf16,
            mirror_axes=configuration.inference.mirror_axes,
            warnings=_spacing_warnings(prepared.placement),
        )
        return Segmentation(Volume(labels, scan.grid, scan.nifti_header), provenance)


def _spacing_warnings(placement: Placement) -> tuple[str, ...]:
    """Name a spacing that is far from what the model was trained at."""
    pairs = list(zip(placement.source_spacing_mm, placement.target_spacing_mm, strict=True))
    if all(max(a / b, b / a) <= SPACING_RATIO_WARNED for a, b in pairs):
        return ()
    found = " x ".join(f"{a:.3g}" for a, _ in pairs)
    trained = " x ".join(f"{b:.3g}" for _, b in pairs)
    return (
        f"spacing {found} mm is more than {SPACING_RATIO_WARNED:g} times off the {trained} mm that "
        "the model was trained at; check the mask with care",
    )


def _hash(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
