"""Models of autoseg, written for nnU-Net v2: all that its prediction reads, and every weight."""

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from autoseg import extensions
from autoseg.checkpoint import ModelCard, build_network, load_model, save_model
from autoseg.cli import main
from autoseg.dataset.labels import LabelScheme, Region
from autoseg.errors import AutosegError
from autoseg.interop.nnunet_export import export_models
from autoseg.interop.nnunet_folders import read_checkpoint
from autoseg.interop.nnunet_models import import_models
from autoseg.planning.plan import Configuration, Plan
from autoseg.records import Record, read_json
from tests.conftest import SHARED_DATA
from tests.inference.model_files import with_labels
from tests.planning.specified import Scans, gpu, made_up_fingerprint, plan_of

MODEL = SHARED_DATA / "nnunet_model"
NAME = "Dataset123_Made_up"
# What predicting reads of a configuration.
READ = {"name", "grid", "model", "inference"}
ORGANS = LabelScheme(values=(0, 1, 2), names=("background", "liver", "tumour"))
REGIONS = LabelScheme(
    values=(0, 1, 3),
    names=("background", "label_1", "core"),
    regions=(Region(name="whole", values=(1, 3)), Region(name="core", values=(3,))),
    region_order=(1, 3),
    ignore=4,
)

R = TypeVar("R", bound=Record)
Edit = Callable[[Configuration], Configuration]


@lru_cache(maxsize=2)
def plan(rules: str) -> Plan:
    """A plan for large anisotropic scans of two channels, whose axes are permuted."""
    scans = Scans((400, 420, 100), (0.7, 0.7, 2.5), count=50)
    fingerprint = made_up_fingerprint(scans, channels=("CT", "MRI"))
    return plan_of(fingerprint, rules, gpu(8))


def narrow(configuration: Configuration) -> Configuration:
    """With a network of few features."""
    stages = [
        stage.model_copy(update={"features": 3 + min(index, 3)})
        for index, stage in enumerate(configuration.model.network.stages)
    ]
    return changed(configuration, model={"network": {"stages": tuple(stages)}})


def changed(record: R, **parts: Any) -> R:
    """With other values, of the record or, given as dictionaries, of its parts."""
    update = {
        name: changed(getattr(record, name), **value) if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    return record.model_copy(update=update)


def save(
    folder: Path, configuration: Configuration, labels: LabelScheme = ORGANS, **card: Any
) -> Path:
    """A model whose every weight is another number."""
    configuration = with_labels(configuration, labels)
    network = build_network(configuration.model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    facts = {
        "plan_name": "made_up",
        "channel_names": ("CT", "MRI"),
        "fold": 0,
        "trained_cases": 4,
        "trained_iterations": 500,
        "trained_seconds": 0.0,
    }
    path = folder / f"{configuration.name}_fold_{card.get('fold', 0)}.safetensors"
    made = ModelCard.model_validate(
        facts | card | {"configuration": configuration, "labels": labels}
    )
    save_model(path, network, made)
    return path


def assert_same(path: Path, other: Path) -> None:
    """The models predict the same."""
    (card, network), (other_card, other_network) = load_model(path), load_model(other)
    assert card.configuration.model_dump(include=READ) == other_card.configuration.model_dump(
        include=READ
    )
    for what in ("plan_name", "labels", "channel_names", "fold", "trained_cases"):
        assert getattr(card, what) == getattr(other_card, what)
    assert card.trained_iterations == other_card.trained_iterations
    expected = other_network.state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in network.state_dict().items())


def as_planned(configuration: Configuration) -> Configuration:
    return configuration


def canonical(configuration: Configuration) -> Configuration:
    return changed(configuration, grid={"orientation": "canonical"})


def other_ratio(configuration: Configuration) -> Configuration:
    resampling = {"separate_axis_ratio": 2.0, "image_order": 1}
    return changed(configuration, grid={"resampling": resampling})


def unmirrored(configuration: Configuration) -> Configuration:
    return changed(configuration, inference={"mirror_axes": ()})


KINDS: dict[str, tuple[str, str, LabelScheme, Edit]] = {
    "plain": ("nnunet", "3d_fullres", ORGANS, as_planned),
    "residual": ("residual_m", "3d_fullres", ORGANS, as_planned),
    "slices": ("nnunet", "2d", ORGANS, as_planned),
    "residual slices": ("residual_m", "2d", REGIONS, as_planned),
    "regions": ("nnunet", "3d_fullres", REGIONS, as_planned),
    "canonical": ("nnunet", "3d_fullres", ORGANS, canonical),
    "another ratio": ("nnunet", "3d_fullres", ORGANS, other_ratio),
    "unmirrored": ("nnunet", "3d_fullres", ORGANS, unmirrored),
}


@pytest.mark.parametrize("kind", KINDS)
def test_importing_what_was_exported_gives_the_same_model(tmp_path: Path, kind: str) -> None:
    rules, name, labels, edit = KINDS[kind]
    planned = plan(rules).configuration(name)
    assert planned.grid.axis_order != (0, 1, 2)
    path = save(tmp_path, edit(narrow(planned)), labels)
    (folder,) = export_models([path], tmp_path / "results", NAME).folders
    assert folder == tmp_path / "results" / NAME / f"nnUNetTrainer__made_up__{name}"
    (back,) = import_models(folder, tmp_path / "back")
    assert_same(back, path)


def test_both_stages_of_a_cascade_share_one_plan(tmp_path: Path) -> None:
    stages = [narrow(plan("nnunet").configuration(n)) for n in ("3d_cascade_fullres", "3d_lowres")]
    paths = [save(tmp_path, stage) for stage in stages]
    second, first = export_models(paths, tmp_path / "results", NAME).folders
    plans = read_json(second / "plans.json")
    assert plans == read_json(first / "plans.json")
    assert plans["configurations"]["3d_cascade_fullres"]["previous_stage"] == "3d_lowres"
    assert plans["configurations"]["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    back = import_models(tmp_path / "results", tmp_path / "back")
    for path, same in zip(paths, back, strict=True):
        assert_same(same, path)


def test_folds_of_a_configuration_go_to_one_folder(tmp_path: Path) -> None:
    configuration = narrow(plan("nnunet").configuration("2d"))
    paths = [save(tmp_path, configuration, fold=fold) for fold in (0, 3, None)]
    exported = export_models(paths, tmp_path / "results", NAME)
    (folder,) = exported.folders
    assert exported.notes == ("2d: predict with -f 0 3 all.",)
    back = import_models(folder, tmp_path / "back")
    for path, same in zip(paths, back, strict=True):
        assert_same(same, path)


def test_slices_are_mirrored_along_their_own_axes(tmp_path: Path) -> None:
    configuration = narrow(plan("nnunet").configuration("2d"))
    assert configuration.inference.mirror_axes == (1, 2)
    export_models([save(tmp_path, configuration)], tmp_path / "results", NAME)
    (path,) = (tmp_path / "results").rglob("*.pth")
    assert read_checkpoint(path)["inference_allowed_mirroring_axes"] == (0, 1)


def test_a_checkpoint_repeats_what_nnunets_own_repeat(tmp_path: Path) -> None:
    path = save(tmp_path, narrow(plan("residual_m").configuration("3d_fullres")))
    (folder,) = export_models([path], tmp_path, NAME).folders
    weights = read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")["network_weights"]
    for block in ("encoder.stem.convs.0", "encoder.stages.1.blocks.0.skip.1"):
        names = [
            f"{part}{block}.{layer}.weight"
            for part in ("", "decoder.")
            for layer in ("conv", "all_modules.0")
        ]
        assert len({weights[name].data_ptr() for name in names}) == 1
    assert "decoder.stages.0.convs.0.all_modules.1.bias" in weights
    assert {"decoder.seg_layers.0.bias", "decoder.transpconvs.0.weight"} < weights.keys()


def test_a_real_model_comes_back_as_it_was(tmp_path: Path) -> None:
    if not MODEL.is_dir():
        pytest.skip(f"a real nnU-Net model is not here: {MODEL}")
    original = next(MODEL.glob("*/*"))
    paths = import_models(MODEL, tmp_path / "models")
    (folder,) = export_models(paths, tmp_path / "results", "Dataset004_Hippocampus").folders
    assert read_json(folder / "dataset.json") == read_json(original / "dataset.json")
    theirs, ours = read_json(original / "plans.json"), read_json(folder / "plans.json")
    assert ours["configurations"].keys() == {"3d_fullres"}
    expected, written = (plans["configurations"].pop("3d_fullres") for plans in (theirs, ours))
    assert written | {"data_identifier": expected["data_identifier"]} == expected
    del theirs["configurations"], ours["configurations"]
    assert ours == {key: theirs[key] for key in ours}
    before, after = (
        read_checkpoint(path / "fold_0" / "checkpoint_final.pth") for path in (original, folder)
    )
    assert after["network_weights"].keys() == before["network_weights"].keys()
    for name, weight in before["network_weights"].items():
        assert torch.equal(after["network_weights"][name], weight)
    mirroring = "inference_allowed_mirroring_axes"
    assert after[mirroring] == before[mirroring]


REFUSED: dict[str, tuple[Edit, str]] = {
    "squeeze": (
        lambda c: changed(c, model={"network": {"squeeze_excitation": True}}),
        "its network has squeeze and excitation",
    ),
    "upsampling": (
        lambda c: changed(c, model={"network": {"upsampling": "interpolated"}}),
        "its upsampling is interpolated",
    ),
    "window": (
        lambda c: changed(c, inference={"gaussian_sigma_fraction": 0.25}),
        "the Gaussian of its patches is 0.25 of the patch wide",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_nnunet_does_not_have_is_refused_by_name(tmp_path: Path, what: str) -> None:
    edit, message = REFUSED[what]
    path = save(tmp_path, edit(narrow(plan("nnunet").configuration("2d"))))
    with pytest.raises(AutosegError, match=message):
        export_models([path], tmp_path / "results", NAME)
    assert not (tmp_path / "results").exists()


def test_networks_of_other_packages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("plain_again", "autoseg.networks.unet:PlainUNet", "autoseg.networks")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    kind = {"network": {"kind": "plain_again"}}
    other = changed(narrow(plan("nnunet").configuration("2d")), model=kind)
    with pytest.raises(AutosegError, match="its network is plain_again; nnU-Net has plain_unet"):
        export_models([save(tmp_path, other)], tmp_path / "results", NAME)


def test_labels_that_nnunets_masks_cannot_have_are_refused(tmp_path: Path) -> None:
    configuration = narrow(plan("nnunet").configuration("2d"))
    labels = LabelScheme(values=(0, 2, 5), names=("background", "ignore", "tumour"))
    path = save(tmp_path, configuration, labels)
    with pytest.raises(AutosegError, match=r"2 problems") as error:
        export_models([path], tmp_path / "results", NAME)
    assert "its labels are 0, 2, 5, but nnU-Net's masks could only have 0 to 2" in str(error.value)
    assert "several of its labels would be called ignore" in str(error.value)


def test_an_ignore_label_that_nnunet_would_not_take_is_left_out(tmp_path: Path) -> None:
    configuration = narrow(plan("nnunet").configuration("2d"))
    for ignore, expected in ((3, 3), (255, None)):
        folder = tmp_path / str(ignore)
        path = save(folder, configuration, ORGANS.model_copy(update={"ignore": ignore}))
        (written,) = export_models([path], folder, NAME).folders
        assert read_json(written / "dataset.json")["labels"].get("ignore") == expected


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    planned = plan("nnunet")
    full, cascade = (narrow(planned.configuration(n)) for n in ("3d_fullres", "3d_cascade_fullres"))
    paths = [
        save(tmp_path / "a", full),
        save(tmp_path / "b", full),
        save(tmp_path / "c", changed(full, model={"patch_size_vox": (64, 64, 64)}), fold=1),
        save(tmp_path / "d", canonical(full), fold=2),
        save(tmp_path / "e", cascade),
    ]
    with pytest.raises(AutosegError, match=r"4 problems") as error:
        export_models(paths, tmp_path / "results", NAME)
    for part in (
        f"{paths[1]} is of the same configuration and fold as {paths[0]}",
        f"{paths[2]} is of another 3d_fullres than {paths[0]}",
        f"{paths[3]} is not of the plan, labels, channels and axes of {paths[0]}",
        f"{paths[4]}: the second stage of a cascade, which needs a model of 3d_lowres",
    ):
        assert part in str(error.value)


def test_what_to_tell_nnunet_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = changed(
        narrow(plan("nnunet").configuration("2d")),
        grid={"resampling": {"keep_within": 0.05}},
        inference={"step_fraction": 0.75},
    )
    arguments = ["export", "nnunet", str(save(tmp_path, configuration)), "--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    folder = tmp_path / "Dataset900_Autoseg" / "nnUNetTrainer__made_up__2d"
    assert printed.out == f"{folder}\n"
    assert "2d: predict with -f 0." in printed.err
    assert "2d: predict with -step_size 0.75." in printed.err
    assert "within 5% of 0.7 x 0.7 mm but not the same is resampled by nnU-Net" in printed.err
    assert main(arguments) == 1
    assert "is there already. Remove it, or change --out." in capsys.readouterr().err
    assert main([*arguments, "--dataset", "mine"]) == 1
    assert "named like Dataset123_Name" in capsys.readouterr().err
