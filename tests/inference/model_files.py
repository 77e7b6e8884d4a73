"""Untrained models, small enough to be run in tests."""

from pathlib import Path

import torch

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.dataset.labels import LabelScheme
from autoseg.planning.model_plan import (
    ConfigurationName,
    InputPlan,
    ScanInput,
    SemanticPlan,
    StageMaskInput,
)
from autoseg.planning.network_plan import StagePlan
from autoseg.planning.plan import Configuration
from tests.planning.specified import CPU, Scans, configure, made_up_fingerprint

PATCH = (8, 16, 16)


def small_configuration(
    patch_size_vox: tuple[int, ...] = PATCH,
    spacing_mm: tuple[float, ...] = (2.0, 1.0, 1.0),
    features: int = 4,
    mirrored: tuple[int, ...] = (2,),
) -> Configuration:
    """Two resolutions of few features, on a grid of one's own."""
    scans = Scans((16, 16, 16), (1, 1, 1), count=50)
    planned = configure(made_up_fingerprint(scans), "cpu", CPU)
    dims = len(patch_size_vox)
    stages = tuple(
        StagePlan(
            features=features * stride,
            kernel_size=(3,) * dims,
            stride=(stride,) * dims,
            blocks=2,
            decoder_blocks=2,
        )
        for stride in (1, 2)
    )
    network = planned.model.network.model_copy(update={"stages": stages})
    model = {"patch_size_vox": patch_size_vox, "network": network}
    return planned.model_copy(
        update={
            "name": "2d" if dims == 2 else "3d_fullres",
            "grid": planned.grid.model_copy(update={"target_spacing_mm": spacing_mm}),
            "model": planned.model.model_copy(update=model),
            "inference": planned.inference.model_copy(update={"mirror_axes": mirrored}),
        }
    )


def second_stage(
    configuration: Configuration, previous: ConfigurationName = "3d_lowres"
) -> Configuration:
    """The same as a later stage of a cascade; what it sees is known when its classes are."""
    inputs = (*configuration.model.inputs, StageMaskInput(stage=previous, classes=()))
    model = configuration.model.model_copy(update={"inputs": inputs})
    return configuration.model_copy(update={"name": "3d_cascade_fullres", "model": model})


def with_labels(configuration: Configuration, labels: LabelScheme) -> Configuration:
    """The same for other classes or regions."""
    model = {
        "inputs": tuple(_of_classes(source, labels) for source in configuration.model.inputs),
        "task": SemanticPlan(classes=len(labels.values), regions=labels.region_classes()),
    }
    changed = configuration.model.model_copy(update=model)
    return configuration.model_copy(update={"model": changed})


def write_model(
    path: Path,
    configuration: Configuration,
    classes: int = 3,
    seed: int = 0,
    fold: int = 0,
    channel: str = "MRI",
) -> Path:
    """A model file with random weights."""
    labels = LabelScheme(
        values=tuple(range(classes)),
        names=("background", *(f"class_{index}" for index in range(1, classes))),
    )
    configuration = with_labels(configuration, labels)
    torch.manual_seed(seed)
    network = build_network(configuration.model)
    card = ModelCard(
        plan_name="small",
        configuration=configuration,
        labels=labels,
        channel_names=(channel,),
        fold=fold,
        trained_cases=1,
        trained_iterations=1,
        trained_seconds=1.0,
    )
    save_model(path, network, card)
    return path


def _of_classes(source: InputPlan, labels: LabelScheme) -> InputPlan:
    if isinstance(source, ScanInput):
        return source
    return source.model_copy(update={"classes": labels.names[1:]})
