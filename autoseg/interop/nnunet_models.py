"""Trained models of nnU-Net v2, read without running anything that is in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import declared_channels, declared_labels, read_description
from autoseg.errors import AutosegError
from autoseg.geometry import Orientation
from autoseg.inspection.statistics import IntensityStats
from autoseg.interop.nnunet_folders import (
    CHECKPOINTS,
    TrainedFolder,
    read_checkpoint,
    stems,
    trained_folders,
    unpacked,
)
from autoseg.interop.nnunet_weights import converted_weights, network_plan
from autoseg.planning.choices import augmentation_plan
from autoseg.planning.grid_plan import (
    ChannelNormalization,
    GridPlan,
    NormalizationKind,
    ResamplingPlan,
)
from autoseg.planning.model_plan import (
    ConfigurationName,
    InputPlan,
    ModelPlan,
    ScanInput,
    SemanticPlan,
    StageMaskInput,
)
from autoseg.planning.plan import Configuration, InferencePlan
from autoseg.planning.rules import load_rule_set
from autoseg.planning.run_plan import LossPlan, RunPlan
from autoseg.records import read_json

NORMALIZATIONS: dict[str, NormalizationKind] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_0_1",
    "RGBTo01Normalization": "rgb_0_1",
}
NAMES: tuple[ConfigurationName, ...] = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
# Their readers give arrays (z, y, x), some of scans turned so that axes go to R, A and S.
REORIENTING_READER = "NibabelIOWithReorient"
ORIENTATIONS: dict[str | None, Orientation] = {
    None: "as_stored",
    "SimpleITKIO": "as_stored",
    "NibabelIO": "as_stored",
    "NaturalImage2DIO": "as_stored",
    "Tiff3DIO": "as_stored",
    "SimpleITKIOWithReorient": "canonical",
    REORIENTING_READER: "canonical",
}
PREPROCESSOR, LABEL_MANAGER = "DefaultPreprocessor", "LabelManager"
RESAMPLING = "resample_data_or_seg_to_shape"
SEPARATE_AXIS_KEY, SEPARATE_AXIS_RATIO = "separate_z_anisotropy_threshold", 3.0


def import_models(source: Path, output: Path) -> list[Path]:
    """Write autoseg models of all of nnU-Net's in a folder or zip; their paths.

    They are named `<configuration>_fold_<n>.safetensors`. Raises AutosegError naming the first
    preprocessor, resampling, normalisation, network or label manager that autoseg does not know,
    and anything in a zip that would be written elsewhere.
    """
    written = []
    with unpacked(source.resolve()) as root:
        folders = list(trained_folders(root))
        if not folders:
            raise AutosegError(
                f"{source}: no trained nnU-Net model is in here. Give the folder that has "
                "plans.json, dataset.json and fold_0/checkpoint_final.pth in it, one above it, or "
                "a zip of them."
            )
        for folder, stem in zip(folders, stems(folders, root), strict=True):
            try:
                written += _import_folder(folder, output, stem)
            except AutosegError as error:
                raise AutosegError(
                    f"{folder.path.relative_to(root) if folder.path != root else source}: {error} "
                    "It is not imported."
                ) from None
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise AutosegError(
                    f"{folder.path}: its plans.json, dataset.json or checkpoint is not as nnU-Net "
                    f"writes it ({type(error).__name__}: {error})."
                ) from error
    return written


def configuration_of(
    plans: Mapping[str, Any], name: str, description: Mapping[str, Any], path: Path
) -> Configuration:
    """One of our configurations from one of a plans.json; mirroring is off.

    Raises AutosegError naming what autoseg does not know.
    """
    given = resolved(plans["configurations"], name)
    _check_known(plans, given)
    dims = len(given["patch_size"])
    labels = declared_labels(dict(description), path)
    patch = tuple(int(size) for size in given["patch_size"])
    rules = load_rule_set("nnunet")
    channels = declared_channels(dict(description), path)
    previous: ConfigurationName | None = "3d_lowres" if given.get("previous_stage") else None
    return Configuration(
        name=_our_name(name, dims, given),
        grid=GridPlan(
            orientation=ORIENTATIONS[plans.get("image_reader_writer")],
            axis_order=tuple(plans["transpose_forward"]),
            target_spacing_mm=tuple(given["spacing"]),
            normalization=_normalization(plans, given, channels),
            resampling=_resampling(given),
        ),
        model=ModelPlan(
            patch_size_vox=patch,
            inputs=_inputs(channels, labels, previous),
            network=network_plan(given),
            task=SemanticPlan(classes=len(labels.values), regions=labels.region_classes()),
        ),
        run=RunPlan(
            batch_size=given["batch_size"],
            loss=LossPlan(
                kind="ce_dice",
                batch_dice=bool(given.get("batch_dice", False)),
                dice_smooth=1e-5,
            ),
            augmentation=augmentation_plan(rules.default("augmentation"), patch, ()),
            training=rules.default("training"),
        ),
        inference=InferencePlan(
            **rules.default("inference").model_dump(exclude={"smallest_object"}),
            mirror_axes=(),
            median_shape_vox=tuple(given["median_image_size_in_voxels"]),
        ),
    )


def _inputs(
    channels: tuple[str, ...], labels: LabelScheme, previous: ConfigurationName | None
) -> tuple[InputPlan, ...]:
    scan = ScanInput(channels=channels)
    if previous is None:
        return (scan,)
    return (scan, StageMaskInput(stage=previous, classes=labels.names[1:]))


def resolved(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with all that it inherits. Raises AutosegError when it is not there."""
    if name not in configurations:
        raise AutosegError(f"its plans have no configuration {name}.")
    given = dict(configurations[name])
    parent = given.pop("inherits_from", None)
    return given if parent is None else resolved(configurations, parent) | given


def _import_folder(folder: TrainedFolder, output: Path, stem: str) -> list[Path]:
    plans = read_json(folder.path / "plans.json")
    description_path = folder.path / "dataset.json"
    description = read_description(description_path)
    trainer, plans_name, name = _names(folder, plans)
    configuration = configuration_of(plans, name, description, description_path)
    labels = declared_labels(description, description_path)
    written = []
    for checkpoint in folder.checkpoints:
        content = read_checkpoint(checkpoint)
        axes = content.get("inference_allowed_mirroring_axes") or ()
        mirrored = _with_mirroring(configuration, tuple(int(axis) for axis in axes))
        network = build_network(mirrored.model)
        weights = converted_weights(content["network_weights"], len(mirrored.model.network.levels))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[2].strip().partition("\n")[0]
            raise AutosegError(
                f"the weights of {trainer} are not those of its plans' network: {reason}."
            ) from None
        fold = checkpoint.parent.name.removeprefix("fold_")
        card = ModelCard(
            plan_name=plans_name,
            configuration=mirrored,
            labels=labels,
            channel_names=declared_channels(description, description_path),
            fold=int(fold) if fold.isdecimal() else None,
            trained_cases=int(description.get("numTraining", 0)),
            trained_iterations=int(content.get("current_epoch", 0))
            * mirrored.run.training.iterations_per_epoch,
            trained_seconds=0.0,
            chosen_on_validation=checkpoint.name == CHECKPOINTS[1],
        )
        path = output / f"{stem}_fold_{fold}.safetensors"
        save_model(path, network, card)
        written.append(path)
    return written


def _names(folder: TrainedFolder, plans: Mapping[str, Any]) -> tuple[str, str, str]:
    """Trainer, plans and configuration: from the folder's name, else what is in it."""
    trainer, _, rest = folder.path.name.partition("__")
    plans_name, _, name = rest.rpartition("__")
    if plans_name:
        return trainer, plans_name, name
    content = read_checkpoint(folder.checkpoints[0])
    return content["trainer_name"], plans["plans_name"], content["init_args"]["configuration"]


def _with_mirroring(configuration: Configuration, axes: tuple[int, ...]) -> Configuration:
    """With mirror axes, which theirs count from the first axis of a patch."""
    ours = tuple(axis + first_patch_axis(configuration) for axis in axes)
    run = configuration.run
    augmentation = run.augmentation.model_copy(update={"mirror_axes": ours})
    return configuration.model_copy(
        update={
            "inference": configuration.inference.model_copy(update={"mirror_axes": ours}),
            "run": run.model_copy(update={"augmentation": augmentation}),
        }
    )


def first_patch_axis(configuration: Configuration) -> int:
    """The axis of prepared scans that is the first of a patch."""
    return 3 - configuration.model.spatial_dims


def _our_name(name: str, dims: int, given: Mapping[str, Any]) -> ConfigurationName:
    for known in NAMES:
        if known == name:
            return known
    if dims == 2:
        return "2d"
    return "3d_cascade_fullres" if given.get("previous_stage") else "3d_fullres"


def _check_known(plans: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse what autoseg would compute otherwise."""
    expected = {
        "preprocessor": (given.get("preprocessor_name"), PREPROCESSOR),
        "label manager": (plans.get("label_manager", LABEL_MANAGER), LABEL_MANAGER),
        "resampling of images": (given.get("resampling_fn_data"), RESAMPLING),
        "resampling of labels": (given.get("resampling_fn_seg"), RESAMPLING),
        "resampling of predictions": (given.get("resampling_fn_probabilities"), RESAMPLING),
    }
    for what, (found, known) in expected.items():
        if found != known:
            raise AutosegError(f"its {what} is {found}; autoseg knows {known}.")
    reader = plans.get("image_reader_writer")
    if reader not in ORIENTATIONS:
        names = ", ".join(name for name in ORIENTATIONS if name is not None)
        raise AutosegError(f"its image reader is {reader}; autoseg knows {names}.")


def _resampling(given: Mapping[str, Any]) -> ResamplingPlan:
    orders, ratios = {}, {}
    for what in ("data", "seg", "probabilities"):
        kwargs = given[f"resampling_fn_{what}_kwargs"]
        if kwargs.get("order_z", 0) != 0 or kwargs.get("force_separate_z") is not None:
            raise AutosegError(f"its resampling of {what} is forced: {json.dumps(kwargs)}.")
        orders[what] = kwargs["order"]
        ratios[what] = float(kwargs.get(SEPARATE_AXIS_KEY, SEPARATE_AXIS_RATIO))
    if len(set(ratios.values())) > 1:
        raise AutosegError(f"its resampling has several {SEPARATE_AXIS_KEY}: {json.dumps(ratios)}.")
    return ResamplingPlan(
        image_order=orders["data"],
        label_order=orders["seg"],
        logits_order=orders["probabilities"],
        separate_axis_ratio=ratios["data"],
    )


def _normalization(
    plans: Mapping[str, Any], given: Mapping[str, Any], channels: tuple[str, ...]
) -> tuple[ChannelNormalization, ...]:
    key = "foreground_intensity_properties_per_channel"
    statistics = plans.get(key) or plans["foreground_intensity_properties_by_modality"]
    normalization = []
    for index, channel in enumerate(channels):
        scheme = given["normalization_schemes"][index]
        if scheme not in NORMALIZATIONS:
            raise AutosegError(
                f"its normalisation of {channel} is {scheme}; autoseg knows "
                f"{', '.join(NORMALIZATIONS)}."
            )
        known = {k: statistics[str(index)][k] for k in IntensityStats.model_fields}
        masked = scheme == "ZScoreNormalization" and bool(given["use_mask_for_norm"][index])
        normalization.append(
            ChannelNormalization(
                channel=channel,
                kind=NORMALIZATIONS[scheme],
                masked=masked,
                statistics=IntensityStats(**known),
            )
        )
    return tuple(normalization)
