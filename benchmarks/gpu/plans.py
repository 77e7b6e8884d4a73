"""Plans of made-up networks, and models of random weights."""

from pathlib import Path

import torch

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.dataset.labels import LabelScheme
from autoseg.interop.nnunet_export import export_models
from autoseg.networks import family_of
from autoseg.planning.choices import augmentation_plan
from autoseg.planning.cost import training_memory_gib
from autoseg.planning.model_plan import ScanInput, SemanticPlan
from autoseg.planning.network_plan import StagePlan, UNetPlan
from autoseg.planning.plan import Configuration
from autoseg.planning.rules import load_rule_set

SMALLEST = 8  # voxels of an axis that are halved once more
MOST_FEATURES = {2: 512, 3: 320}
BLOCKS = {"plain_unet": [2], "residual_unet": [1, 3, 4, 6]}  # the last holds for all below
DECODER_BLOCKS = {"plain_unet": 2, "residual_unet": 1}


def unet(kind: str, patch_vox: tuple[int, ...], features: int = 32) -> UNetPlan:
    """nnU-Net's network of an isotropic patch."""
    dims, size = len(patch_vox), patch_vox
    strides = [(1,) * dims]
    while max(size) >= SMALLEST:
        strides.append(tuple(2 if n >= SMALLEST else 1 for n in size))
        size = tuple(n // s for n, s in zip(size, strides[-1], strict=True))
    blocks = BLOCKS[kind]
    stages = tuple(
        StagePlan(
            features=min(features * 2**level, MOST_FEATURES[dims]),
            kernel_size=(3,) * dims,
            stride=stride,
            blocks=blocks[min(level, len(blocks) - 1)],
            decoder_blocks=DECODER_BLOCKS[kind] if level < len(strides) - 1 else 0,
        )
        for level, stride in enumerate(strides)
    )
    return UNetPlan(
        kind=kind, stages=stages, norm="instance", activation="leaky_relu", bias=True,
        upsampling="transposed", deep_supervision=True,
    )  # fmt: skip


def made_up(
    template: Configuration,
    network: UNetPlan,
    patch_vox: tuple[int, ...],
    classes: int = 2,
    batch_size: int = 2,
) -> Configuration:
    """The template on a grid of 1 mm, with another network, and nnU-Net's way of training."""
    dims, rules = len(patch_vox), load_rule_set("nnunet")
    model = {
        "patch_size_vox": patch_vox,
        "inputs": (ScanInput(channels=template.model.channel_names[:1]),),
        "network": network,
        "task": SemanticPlan(classes=classes),
    }
    run = {
        "batch_size": batch_size,
        "training": rules.default("training"),
        "augmentation": augmentation_plan(rules.default("augmentation"), patch_vox, ()),
    }
    inference = {"mirror_axes": (), "median_shape_vox": (300.0, 512.0, 512.0)}
    changes = {
        "name": "2d" if dims == 2 else "3d_fullres",
        "grid": template.grid.model_copy(update={"target_spacing_mm": (1.0,) * dims}),
        "model": template.model.model_copy(update=model),
        "run": template.run.model_copy(update=run),
        "inference": template.inference.model_copy(update=inference),
    }
    return template.model_copy(update=changes)


def with_training(configuration: Configuration, **options: object) -> Configuration:
    training = configuration.run.training.model_copy(update=options)
    run = configuration.run.model_copy(update={"training": training})
    return configuration.model_copy(update={"run": run})


def labels_of(classes: int) -> LabelScheme:
    names = ("background", *(f"class_{index}" for index in range(1, classes)))
    return LabelScheme(values=tuple(range(classes)), names=names)


def card_of(configuration: Configuration) -> ModelCard:
    return ModelCard(
        plan_name="bench",
        configuration=configuration,
        labels=labels_of(configuration.model.task.classes),
        channel_names=configuration.model.channel_names,
        fold=0,
        trained_cases=0,
        trained_iterations=0,
        trained_seconds=0,
    )


def random_model(folder: Path, configuration: Configuration) -> tuple[Path, Path]:
    """A model of random weights: our file, and nnU-Net's folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = folder / "model.safetensors"
    save_model(model, build_network(configuration.model), card_of(configuration))
    exported = export_models([model], folder / "nnunet", "Dataset900_Bench")
    return model, exported.folders[0]


def estimated_gib(configuration: Configuration, bf16: bool) -> float:
    """What planning expects a training step to take."""
    model = configuration.model
    return training_memory_gib(configuration, family_of(model.network.kind).cost(model), bf16)
