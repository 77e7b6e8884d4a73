"""Datasets and plans that nnU-Net v2 trains on for a few minutes, small enough for a CPU."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FUNCTION = "resample_data_or_seg_to_shape"
NETWORKS = "dynamic_network_architectures.architectures.unet"
BRIEF = "BriefPlans"
HELD_OUT, TRAINED_ON = 20, 60  # of the hippocampus cases
HELD_OUT_TUMOURS = 6


@dataclass(frozen=True, slots=True)
class Network:
    """A U-Net by its stages; blocks only for a residual encoder."""

    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...] = ()

    def architecture(self) -> dict[str, Any]:
        """As in a plans.json."""
        dims, stages = len(self.kernels[0]), len(self.features)
        kwargs: dict[str, Any] = {
            "n_stages": stages,
            "features_per_stage": self.features,
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": self.kernels,
            "strides": self.strides,
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
        if self.blocks:
            encoder = {"n_blocks_per_stage": self.blocks}
        else:
            encoder = {"n_conv_per_stage": (2,) * stages}
        decoder = {"n_conv_per_stage_decoder": (1 if self.blocks else 2,) * (stages - 1)}
        return {
            "network_class_name": f"{NETWORKS}.{_network_name(self)}",
            "arch_kwargs": kwargs | encoder | decoder,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }


def _network_name(network: Network) -> str:
    return "ResidualEncoderUNet" if network.blocks else "PlainConvUNet"


def isotropic(dims: int, features: Sequence[int], blocks: tuple[int, ...] = ()) -> Network:
    """Every stage but the first halves every axis."""
    kernels = ((3,) * dims,) * len(features)
    strides = ((1,) * dims, *((2,) * dims,) * (len(features) - 1))
    return Network(tuple(features), kernels, strides, blocks)


def planned(
    data: str,
    spacing_mm: Sequence[float],
    patch_vox: Sequence[int],
    network: Network,
    batch_size: int = 2,
    **more: Any,
) -> dict[str, Any]:
    """A configuration as in a plans.json; `data` names the prepared data."""
    resampling: dict[str, Any] = {}
    for what, is_label, order in (
        ("data", False, 3),
        ("seg", True, 1),
        ("probabilities", False, 1),
    ):
        resampling[f"resampling_fn_{what}"] = FUNCTION
        resampling[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": is_label,
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    return {
        "data_identifier": f"{BRIEF}_{data}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(patch_vox),
        "median_image_size_in_voxels": list(patch_vox),
        "spacing": list(spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **resampling,
        "architecture": network.architecture(),
        "batch_dice": False,
        **more,
    }


CT: dict[str, Any] = {"normalization_schemes": ["CTNormalization"]}
SMALL = isotropic(3, (8, 16, 32, 64))
CONFIGURATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "Dataset004_Hippocampus": {
        "2d": planned("2d", (1, 1), (40, 32), isotropic(2, (16, 32, 64, 128)), 24, batch_dice=True),
        # Its last stages are equally wide, so that a shortcut is only pooled.
        "3d_residual": planned(
            "3d", (1, 1, 1), (24, 32, 24), isotropic(3, (8, 16, 32, 32), (1, 2, 3, 3))
        ),
        "3d_lowres": planned(
            "lowres", (1.7, 1.7, 1.7), (16, 24, 16), SMALL, 4, next_stage="3d_cascade_fullres"
        ),
        "3d_cascade_fullres": planned(
            "3d", (1, 1, 1), (24, 32, 24), SMALL, previous_stage="3d_lowres", batch_dice=True
        ),
    },
    "Dataset005_Regions": {
        "3d_fullres": planned("3d", (1, 1, 1), (24, 32, 24), SMALL),
    },
    "Dataset006_SarcomaCT": {
        "3d_fullres": planned("3d", (4, 2.5, 2.5), (32, 48, 48), SMALL, **CT),
    },
    "Dataset007_LungCT": {
        "3d_fullres": planned("3d", (4, 3.5, 3.5), (32, 48, 48), SMALL, **CT),
    },
}  # fmt: skip
ORDERS = {"Dataset005_Regions": (2, 0, 1)}  # of axes, where it is not the stored one


def make_dataset(name: str, folder: Path, shared: Path) -> list[Path]:
    """Link a dataset's raw files, write its plan and its only split; the scans to predict."""
    makers = {
        "Dataset004_Hippocampus": _hippocampus,
        "Dataset005_Regions": _regions,
        "Dataset006_SarcomaCT": _sarcoma,
        "Dataset007_LungCT": _lung,
    }
    raw = folder / "nnUNet_raw" / name
    (raw / "imagesTr").mkdir(parents=True, exist_ok=True)
    (raw / "labelsTr").mkdir(exist_ok=True)
    description, cases, held_out = makers[name](shared)
    for case, (image, label) in cases.items():
        _link(raw / "imagesTr" / f"{case}_0000.nii.gz", image)
        _link(raw / "labelsTr" / f"{case}.nii.gz", label)
    content = description | {"numTraining": len(cases), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(content))
    split = {"train": [case for case in cases if case not in held_out], "val": held_out}
    (folder / f"{name}_splits.json").write_text(json.dumps([split]))
    (folder / f"{name}_plans.json").write_text(json.dumps(_plans(name)))
    return [raw / "imagesTr" / f"{case}_0000.nii.gz" for case in held_out or cases]


Made = tuple[dict[str, Any], dict[str, tuple[Path, Path]], list[str]]


def _hippocampus(shared: Path) -> Made:
    """Predicted are cases that the shared model was not trained on."""
    raw = shared / "hippocampus"
    masks = sorted(shared.glob("nnunet_model/*/*/fold_0/validation/*.nii.gz"))
    unseen = [path.name.removesuffix(".nii.gz") for path in masks]
    seen = [path.name.removesuffix(".nii.gz") for path in sorted((raw / "labelsTr").iterdir())]
    seen = [case for case in seen if case not in unseen][:TRAINED_ON]
    unseen = unseen[:HELD_OUT]
    cases = {
        case: (raw / "imagesTr" / f"{case}_0000.nii.gz", raw / "labelsTr" / f"{case}.nii.gz")
        for case in seen + unseen
    }
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    return {"channel_names": {"0": "MRI"}, "labels": labels}, cases, unseen


def _regions(shared: Path) -> Made:
    description, cases, unseen = _hippocampus(shared)
    labels = {"background": 0, "whole": [1, 2], "Posterior": 2}
    return description | {"labels": labels, "regions_class_order": [1, 2]}, cases, unseen


def _sarcoma(shared: Path) -> Made:
    patients = sorted(path for path in (shared / "sarcoma").iterdir() if path.is_dir())
    cases = {p.name: (p / "CT_image.nii.gz", p / "CT_mask.nii.gz") for p in patients}
    labels = {"background": 0, "tumour": 1}
    return {"channel_names": {"0": "CT"}, "labels": labels}, cases, [*cases][-HELD_OUT_TUMOURS:]


def _lung(shared: Path) -> Made:
    name = "4DLung_P113"
    files = shared / "lung_ct" / f"{name}_0000.nii.gz", shared / "lung_ct" / f"{name}.nii.gz"
    labels = {"background": 0, "tumour": 1, "node": 2, "carina": 3, "vertebra": 4}
    return {"channel_names": {"0": "CT"}, "labels": labels}, {name: files}, []


def _plans(name: str) -> dict[str, Any]:
    order = ORDERS.get(name, (0, 1, 2))
    return {
        "dataset_name": name,
        "plans_name": BRIEF,
        "original_median_spacing_after_transp": [1, 1, 1],
        "original_median_shape_after_transp": [1, 1, 1],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": order,
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "configurations": CONFIGURATIONS[name],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
    }


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target.resolve())
