"""Models of autoseg as folders that nnU-Net v2 predicts with."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoseg.checkpoint import ModelCard, load_model, read_card
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import IGNORE
from autoseg.errors import AutosegError, raise_if_any
from autoseg.interop.nnunet_folders import CHECKPOINTS
from autoseg.interop.nnunet_models import (
    LABEL_MANAGER,
    NORMALIZATIONS,
    PREPROCESSOR,
    REORIENTING_READER,
    RESAMPLING,
    SEPARATE_AXIS_KEY,
    SEPARATE_AXIS_RATIO,
    first_patch_axis,
)
from autoseg.interop.nnunet_weights import PUBLISHED, published_architecture, published_weights
from autoseg.planning.grid_plan import ResamplingPlan
from autoseg.planning.network_plan import UNetPlan, unet_plan
from autoseg.planning.plan import Configuration
from autoseg.records import replacing, save_json

TRAINER = "nnUNetTrainer"
DATASET_NAME = re.compile(r"Dataset\d{3}_\w+")
FILE_ENDING = ".nii.gz"
READERS = {"as_stored": "SimpleITKIO", "canonical": REORIENTING_READER}
SCHEMES: dict[str, str] = {kind: scheme for scheme, kind in NORMALIZATIONS.items()}
BACKGROUND = "background"
# What nnU-Net's sliding window has unless it is told otherwise, and always has.
STEP_FRACTION, GAUSSIAN_SIGMA_FRACTION = 0.5, 0.125
FOLDS = ("0", "1", "2", "3", "4")  # that it looks for unless it is told otherwise


@dataclass(frozen=True, slots=True)
class Exported:
    """The folders that were written, and what to know when predicting with them."""

    folders: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model file and what it says of itself."""

    path: Path
    card: ModelCard

    @property
    def fold(self) -> str:
        return "all" if self.card.fold is None else str(self.card.fold)


def export_models(paths: Sequence[Path], output: Path, dataset_name: str) -> Exported:
    """Write models of one plan as nnU-Net's, so that it makes the masks that autoseg makes.

    The layout is that of its results: `<dataset_name>/nnUNetTrainer__<plan>__<configuration>/`,
    with a `fold_<n>` for each model; both stages of a cascade are written together. Raises
    AutosegError that lists all that nnU-Net cannot represent.
    """
    models = [Model(path, read_card(path)) for path in paths]
    if not DATASET_NAME.fullmatch(dataset_name):
        raise AutosegError(f"{dataset_name}: nnU-Net's datasets are named like Dataset123_Name.")
    raise_if_any(
        [*_strangers(models), *(p for model in models for p in _problems(model))],
        "nnU-Net v2 cannot represent these models; its masks would not be those of autoseg",
    )
    plans = published_plans([model.card for model in models], dataset_name)
    groups: dict[str, list[Model]] = {}
    for model in models:
        groups.setdefault(model.card.configuration.name, []).append(model)
    folders = {
        output / dataset_name / f"{TRAINER}__{plans['plans_name']}__{name}": group
        for name, group in groups.items()
    }
    there = [
        f"{folder} is there already. Remove it, or change --out."
        for folder in folders
        if folder.exists()
    ]
    raise_if_any(there, "nothing is written over")
    for folder, group in folders.items():
        _write_folder(folder, group, plans)
    return Exported(tuple(folders), tuple(n for group in groups.values() for n in _notes(group)))


def published_plans(cards: Sequence[ModelCard], dataset_name: str) -> dict[str, Any]:
    """The plans.json of models of one plan: all that nnU-Net's prediction reads of it."""
    card = cards[0]
    order = card.configuration.grid.axis_order
    configurations = {card.configuration.name: card.configuration for card in cards}
    published = {
        name: _published_configuration(configuration, card.plan_name)
        for name, configuration in configurations.items()
    }
    for name, configuration in configurations.items():
        if configuration.previous_stage is not None:
            published[configuration.previous_stage]["next_stage"] = name
    return {
        "dataset_name": dataset_name,
        "plans_name": card.plan_name,
        "image_reader_writer": READERS[card.configuration.grid.orientation],
        "transpose_forward": list(order),
        "transpose_backward": np.argsort(order).tolist(),
        "configurations": published,
        "label_manager": LABEL_MANAGER,
        "foreground_intensity_properties_per_channel": {
            str(index): channel.statistics.model_dump()
            for index, channel in enumerate(card.configuration.grid.normalization)
        },
    }


def published_description(card: ModelCard) -> dict[str, Any]:
    """The dataset.json of the scans that a model takes and the masks that it makes."""
    description = {
        "channel_names": {str(index): name for index, name in enumerate(card.channel_names)},
        "labels": _published_labels(card.labels),
        "numTraining": card.trained_cases,
        "file_ending": FILE_ENDING,
    }
    if card.labels.regions:
        description["regions_class_order"] = list(card.labels.region_order)
    return description


def _published_labels(scheme: LabelScheme) -> dict[str, int | list[int]]:
    """Their labels. An ignore label that is not the next value is left out: masks have none."""
    labels: dict[str, int | list[int]] = {BACKGROUND: 0}
    if scheme.regions:
        for region in scheme.regions:
            labels[region.name] = (
                list(region.values) if len(region.values) > 1 else region.values[0]
            )
    else:
        labels |= dict(zip(scheme.names[1:], scheme.values[1:], strict=True))
    if scheme.ignore == max(scheme.values) + 1:
        labels[IGNORE] = scheme.ignore
    return labels


def _published_configuration(configuration: Configuration, plan_name: str) -> dict[str, Any]:
    resampling = configuration.grid.resampling
    orders = {
        "data": resampling.image_order,
        "seg": resampling.label_order,
        "probabilities": resampling.logits_order,
    }
    published = {
        "data_identifier": f"{plan_name}_{configuration.name}",
        "preprocessor_name": PREPROCESSOR,
        "batch_size": configuration.run.batch_size,
        "patch_size": list(configuration.model.patch_size_vox),
        "median_image_size_in_voxels": list(configuration.inference.median_shape_vox),
        "spacing": list(configuration.grid.target_spacing_mm),
        "normalization_schemes": [SCHEMES[c.kind] for c in configuration.grid.normalization],
        "use_mask_for_norm": [channel.masked for channel in configuration.grid.normalization],
        **{f"resampling_fn_{what}": RESAMPLING for what in orders},
        **{
            f"resampling_fn_{what}_kwargs": _resampling_kwargs(resampling, order, what == "seg")
            for what, order in orders.items()
        },
        "architecture": published_architecture(unet_plan(configuration.model.network)),
        "batch_dice": configuration.run.loss.batch_dice,
    }
    if configuration.previous_stage is not None:
        published["previous_stage"] = configuration.previous_stage
    return published


def _resampling_kwargs(plan: ResamplingPlan, order: int, is_seg: bool) -> dict[str, Any]:
    kwargs = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
    if plan.separate_axis_ratio != SEPARATE_AXIS_RATIO:
        return kwargs | {SEPARATE_AXIS_KEY: plan.separate_axis_ratio}
    return kwargs


def _write_folder(folder: Path, models: Sequence[Model], plans: Mapping[str, Any]) -> None:
    description = published_description(models[0].card)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as temporary:
        save_json(plans, temporary / "plans.json")
        save_json(description, temporary / "dataset.json")
        for model in models:
            content = _checkpoint(model, plans, description)
            path = temporary / f"fold_{model.fold}" / CHECKPOINTS[0]
            path.parent.mkdir()
            torch.save(content, path)  # a pickle, since that is their format


def _checkpoint(
    model: Model, plans: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, Any]:
    card, network = load_model(model.path)
    configuration = card.configuration
    first = first_patch_axis(configuration)
    axes = tuple(axis - first for axis in configuration.inference.mirror_axes if axis >= first)
    return {
        "network_weights": published_weights(
            network.state_dict(), unet_plan(configuration.model.network)
        ),
        "trainer_name": TRAINER,
        "init_args": {
            "plans": plans,
            "configuration": configuration.name,
            "fold": "all" if card.fold is None else card.fold,
            "dataset_json": description,
        },
        "inference_allowed_mirroring_axes": axes or None,
        "current_epoch": card.trained_iterations // configuration.run.training.iterations_per_epoch,
    }


def _strangers(models: Sequence[Model]) -> Iterator[str]:
    """Models that cannot share one plans.json or folder, and stages that are missing."""
    first = models[0]
    seen: dict[tuple[str, str], Path] = {}
    configurations = {m.card.configuration.name: m for m in reversed(models)}
    for model in models:
        other = configurations[model.card.configuration.name]
        if _shared(model.card) != _shared(first.card):
            yield (
                f"{model.path} is not of the plan, labels, channels and axes of {first.path}. "
                "Export them one at a time."
            )
        elif model.card.configuration != other.card.configuration:
            yield f"{model.path} is of another {other.card.configuration.name} than {other.path}."
        key = (model.card.configuration.name, model.fold)
        if key in seen:
            yield f"{model.path} is of the same configuration and fold as {seen[key]}."
        seen[key] = model.path
    for model in configurations.values():
        needed = model.card.configuration.previous_stage
        if needed is not None and needed not in configurations:
            yield (
                f"{model.path}: the second stage of a cascade, which needs a model of {needed} "
                "beside it."
            )


def _shared(card: ModelCard) -> tuple[Any, ...]:
    """What their plans.json and dataset.json say once for all configurations."""
    configuration = card.configuration
    statistics = tuple(channel.statistics for channel in configuration.grid.normalization)
    axes = (configuration.grid.orientation, configuration.grid.axis_order)
    return card.plan_name, card.labels, card.channel_names, axes, statistics


def _problems(model: Model) -> Iterator[str]:
    """What nnU-Net cannot represent of a model."""
    plan, inference = model.card.configuration.model.network, model.card.configuration.inference
    if plan.kind not in PUBLISHED:
        yield f"{model.path}: its network is {plan.kind}; nnU-Net has {' and '.join(PUBLISHED)}."
    else:
        yield from (f"{model.path}: {problem}" for problem in _unet_problems(unet_plan(plan)))
    if inference.gaussian_sigma_fraction != GAUSSIAN_SIGMA_FRACTION:
        yield (
            f"{model.path}: the Gaussian of its patches is {inference.gaussian_sigma_fraction:g} "
            f"of the patch wide; nnU-Net's is {GAUSSIAN_SIGMA_FRACTION:g}."
        )
    yield from (f"{model.path}: {problem}" for problem in _label_problems(model.card.labels))


def _unet_problems(plan: UNetPlan) -> Iterator[str]:
    if plan.squeeze_excitation:
        yield "its network has squeeze and excitation, which nnU-Net's have not."
    if plan.upsampling != "transposed":
        yield f"its upsampling is {plan.upsampling}; nnU-Net's is transposed."


def _label_problems(scheme: LabelScheme) -> Iterator[str]:
    # Regions are painted with values of their own, classes with their indices.
    if not scheme.regions and scheme.values != tuple(range(len(scheme.values))):
        last = len(scheme.values) - 1
        yield (
            f"its labels are {', '.join(map(str, scheme.values))}, but nnU-Net's masks could only "
            f"have 0 to {last}. Renumber them in the training masks, and train again."
        )
    names = [region.name for region in scheme.regions] or list(scheme.names[1:])
    taken = {BACKGROUND, IGNORE} & set(names)
    doubled = sorted({name for name in names if names.count(name) > 1} | taken)
    if doubled:
        yield f"several of its labels would be called {', '.join(doubled)}."


def _notes(models: Sequence[Model]) -> Iterator[str]:
    """What to tell nnU-Net when predicting with models of one configuration, and what differs."""
    configuration = models[0].card.configuration
    folds = tuple(sorted(model.fold for model in models))
    if folds != FOLDS:
        yield f"{configuration.name}: predict with -f {' '.join(folds)}."
    if configuration.inference.step_fraction != STEP_FRACTION:
        yield (
            f"{configuration.name}: predict with -step_size "
            f"{configuration.inference.step_fraction:g}."
        )
    if configuration.grid.resampling.keep_within > 0:
        spacing = " x ".join(f"{mm:g}" for mm in configuration.grid.target_spacing_mm)
        yield (
            f"{configuration.name}: a scan whose spacing is within "
            f"{configuration.grid.resampling.keep_within:.0%} of {spacing} mm but not the same is "
            "resampled by nnU-Net and not by autoseg, so their masks of it differ."
        )
