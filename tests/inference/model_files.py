"""Untrained models, small enough to be run in tests."""

from pathlib import Path

import torch

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.dataset.dataset import LabelScheme
from autoseg.planning.plan import Configuration, NetworkPlan, StagePlan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set
from tests.planning.specified import CPU, Scans, made_up_fingerprint

PATCH = (8, 16, 16)


def small_configuration(
    patch_size_vox: tuple[int, ...] = PATCH,
    spacing_mm: tuple[float, ...] = (2.0, 1.0, 1.0),
    features: int = 4,
    mirrored: tuple[int, ...] = (2,),
) -> Configuration:
    """Two resolutions of few features, on a grid of one's own."""
    scans = Scans((16, 16, 16), (1, 1, 1), count=50)
    plan = make_plan(made_up_fingerprint(scans), load_rule_set("cpu"), CPU)
    planned = plan.configurations["3d_fullres"]
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
    network: NetworkPlan = planned.network.model_copy(update={"stages": stages})
    return planned.model_copy(
        update={
            "name": "2d" if dims == 2 else "3d_fullres",
            "spatial_dims": dims,
            "patch_size_vox": patch_size_vox,
            "target_spacing_mm": spacing_mm,
            "network": network,
            "inference": planned.inference.model_copy(update={"mirror_axes": mirrored}),
        }
    )


def write_model(
    path: Path, configuration: Configuration, classes: int = 3, seed: int = 0, fold: int = 0
) -> Path:
    """A model file with random weights."""
    labels = LabelScheme(
        values=tuple(range(classes)),
        names=("background", *(f"class_{index}" for index in range(1, classes))),
    )
    torch.manual_seed(seed)
    network = build_network(configuration, labels)
    card = ModelCard(
        plan_name="small",
        configuration=configuration,
        labels=labels,
        channel_names=("MRI",),
        fold=fold,
        trained_cases=1,
        trained_iterations=1,
        trained_seconds=1.0,
    )
    save_model(path, network, card)
    return path
