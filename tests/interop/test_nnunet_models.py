"""Models that nnU-Net v2 trained, read by autoseg: the same masks, and nothing run or guessed.

Covers: nnunet_folders, nnunet_weights.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from autoseg.checkpoint import load_model, read_card
from autoseg.cli import main
from autoseg.errors import AutosegError
from autoseg.interop.nnunet_models import configuration_of, import_models
from autoseg.interop.nnunet_weights import network_plan
from autoseg.records import read_json, save_json
from tests.conftest import SHARED_DATA

MODEL = SHARED_DATA / "nnunet_model"
CASES = ("hippocampus_034", "hippocampus_060", "hippocampus_105", "hippocampus_393")


@pytest.fixture
def trained() -> Path:
    """The folder `{Trainer}__{Plans}__{configuration}` of a real model."""
    if not MODEL.is_dir():
        pytest.skip(f"a real nnU-Net model is not here: {MODEL}")
    return next(MODEL.glob("*/*"))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it without masks, to be changed."""
    folder = tmp_path / "Dataset004_Hippocampus" / trained.name
    (folder / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
        shutil.copy(trained / name, folder / name)
    return folder


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = read_json(path)
    edit(content)
    save_json(content, path)


def test_imported_models_make_nnunets_own_masks(
    trained: Path, hippocampus: Path, tmp_path: Path
) -> None:
    (model,) = import_models(MODEL, tmp_path / "models")
    scans = [str(hippocampus / "imagesTr" / f"{case}_0000.nii.gz") for case in CASES[:2]]
    arguments = ["predict", *scans, str(tmp_path / "out"), "--model", str(model)]
    assert main([*arguments, "--precision", "fp32", "--device", "cpu"]) == 0
    for case in CASES[:2]:
        ours = nib.load(tmp_path / "out" / f"{case}.nii.gz")
        theirs = nib.load(trained / "fold_0" / "validation" / f"{case}.nii.gz")
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
        a, b = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
        for value in (1, 2):
            dice = (
                2 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum())
            )
            assert dice >= 0.999, (case, value)


def test_a_model_says_what_it_was_trained_for(trained: Path, tmp_path: Path) -> None:
    (path,) = import_models(trained, tmp_path)
    assert path.name == "3d_fullres_fold_0.safetensors"
    card, _ = load_model(path)
    assert (card.fold, card.plan_name) == (0, "nnUNetPlansSmall")
    assert card.labels.names == ("background", "Anterior", "Posterior")
    configuration = card.configuration
    assert configuration.model.patch_size_vox == (40, 56, 40)
    assert configuration.inference.mirror_axes == (0, 1, 2)
    assert [stage.features for stage in configuration.model.network.stages] == [16, 32, 64, 128]


def test_a_zip_holds_the_same_as_a_folder(copied: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", copied.parent.parent)
    (from_zip,) = import_models(Path(archive), tmp_path / "a")
    (from_folder,) = import_models(copied, tmp_path / "b")
    assert from_zip.read_bytes() == from_folder.read_bytes()


@pytest.mark.parametrize("entry", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil"])
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path: Path, entry: str) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(entry, "evil")
    with pytest.raises(AutosegError, match="leaves the folder"):
        import_models(tmp_path / "model.zip", tmp_path / "out")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def test_code_in_a_checkpoint_is_never_run(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"network_weights": {}, "evil": Evil()}, copied / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(AutosegError, match="no checkpoint that can be read safely"):
        import_models(copied, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def set_in_configuration(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plans: plans["configurations"]["3d_fullres"].update({key: value})


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "preprocessor": (
        set_in_configuration("preprocessor_name", "MyPreprocessor"),
        "its preprocessor is MyPreprocessor",
    ),
    "resampling": (
        set_in_configuration("resampling_fn_probabilities", "resample_torch_fornnunet"),
        "its resampling of predictions is resample_torch_fornnunet",
    ),
    "normalisation": (
        set_in_configuration("normalization_schemes", ["MyNormalization"]),
        "its normalisation of MRI is MyNormalization",
    ),
    "reader": (
        lambda plans: plans.update(image_reader_writer="MyReader"),
        "its image reader is MyReader",
    ),
    "label manager": (
        lambda plans: plans.update(label_manager="MyLabels"),
        "its label manager is MyLabels",
    ),
    "network": (
        lambda plans: plans["configurations"]["3d_fullres"]["architecture"].update(
            network_class_name="somewhere.SwinUNETR"
        ),
        "its network is SwinUNETR",
    ),
    "norm": (
        lambda plans: plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
            norm_op="torch.nn.modules.batchnorm.BatchNorm3d"
        ),
        "its normalisation layers are BatchNorm3d",
    ),
    "order of layers": (
        lambda plans: plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
            nonlin_first=True
        ),
        "its network has settings that autoseg does not know: .*nonlin_first",
    ),
    "width": (
        lambda plans: plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
            features_per_stage=[16, 32, 64, 64]
        ),
        "the weights of nnUNetTrainer_5epochs are not those of its plans' network",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_autoseg_does_not_know_is_refused_by_name(
    copied: Path, tmp_path: Path, what: str
) -> None:
    edit, message = REFUSED[what]
    change(copied / "plans.json", edit)
    with pytest.raises(AutosegError, match=message):
        import_models(copied, tmp_path / "out")


@pytest.mark.parametrize(
    ("reader", "orientation"),
    [("SimpleITKIO", "as_stored"), ("SimpleITKIOWithReorient", "canonical")],
)
def test_scans_are_turned_as_their_reader_turns_them(
    copied: Path, tmp_path: Path, reader: str, orientation: str
) -> None:
    change(copied / "plans.json", lambda plans: plans.update(image_reader_writer=reader))
    (path,) = import_models(copied, tmp_path / "out")
    assert read_card(path).configuration.grid.orientation == orientation


def test_a_folder_may_be_called_anything(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = copied.rename(copied.with_name("renamed"))
    monkeypatch.chdir(renamed)
    archive = shutil.make_archive(str(tmp_path / "inner"), "zip", renamed)
    names = ("3d_fullres", "renamed", "inner")
    written = [*import_models(Path(), tmp_path / "a"), *import_models(Path(archive), tmp_path)]
    assert [read_card(path).configuration.name for path in written] == [names[0]] * 2
    assert [path.name for path in written] == [f"{name}_fold_0.safetensors" for name in names[1:]]


def test_damaged_files_are_named(copied: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", copied))
    whole = bytearray(archive.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    archive.write_bytes(whole)
    with pytest.raises(AutosegError, match="damaged"):
        import_models(archive, tmp_path / "out")
    (copied / "plans.json").write_text("{}")
    with pytest.raises(AutosegError, match=r"not as nnU-Net writes it .*configurations"):
        import_models(copied, tmp_path / "out")
    with pytest.raises(AutosegError, match="there is no such folder"):
        import_models(tmp_path / "nowhere", tmp_path / "out")


def test_models_of_several_datasets_do_not_replace_each_other(copied: Path, tmp_path: Path) -> None:
    other = copied.parent.with_name("Dataset005_Other") / copied.name
    shutil.copytree(copied, other)
    written = import_models(tmp_path, tmp_path / "out")
    assert len(set(written)) == 2
    assert [path.name.partition("__")[0] for path in written] == [
        "Dataset004_Hippocampus",
        "Dataset005_Other",
    ]


def test_wrapped_weights_and_several_folds_are_read(copied: Path, tmp_path: Path) -> None:
    (plain,) = import_models(copied, tmp_path / "plain")
    path = copied / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    weights = {f"module._orig_mod.{k}": v for k, v in content["network_weights"].items()}
    (copied / "fold_all").mkdir()
    torch.save({"network_weights": weights}, copied / "fold_all" / "checkpoint_best.pth")
    written = import_models(copied, tmp_path / "out")
    assert [p.name for p in written] == [
        "3d_fullres_fold_0.safetensors",
        "3d_fullres_fold_all.safetensors",
    ]
    card, network = load_model(written[1])
    assert card.fold is None
    assert card.chosen_on_validation
    assert card.configuration.inference.mirror_axes == ()  # it says nothing of mirroring
    expected = load_model(plain)[1].state_dict()
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, expected[name])


def test_older_plans_say_the_same_in_other_words(trained: Path) -> None:
    plans = read_json(trained / "plans.json")
    given = plans["configurations"]["3d_fullres"]
    current = network_plan(given)
    kwargs = given["architecture"]["arch_kwargs"]
    older = given | {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 16,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }
    del older["architecture"]
    assert network_plan(older) == current


def test_configurations_inherit(trained: Path) -> None:
    plans = read_json(trained / "plans.json")
    plans["configurations"]["3d_lowres"] = {
        "inherits_from": "3d_fullres",
        "spacing": [2.0, 2.0, 2.0],
    }
    plans["configurations"]["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }
    path = trained / "dataset.json"
    description = json.loads(path.read_text())
    lowres = configuration_of(plans, "3d_lowres", description, path)
    assert (lowres.name, lowres.grid.target_spacing_mm) == ("3d_lowres", (2, 2, 2))
    cascade = configuration_of(plans, "3d_cascade_fullres", description, path)
    assert cascade.previous_stage == "3d_lowres"
    slices = configuration_of(plans, "2d", description, path)
    assert slices.model.spatial_dims == 2
    assert slices.run.augmentation.planar


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="no trained nnU-Net model is in here"):
        import_models(tmp_path, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(AutosegError, match="no zip file, or damaged"):
        import_models(tmp_path / "file", tmp_path / "out")
