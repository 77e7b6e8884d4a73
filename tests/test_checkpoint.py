from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autoseg.checkpoint import ModelCard, build_network, load_model, save_model
from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from tests.planning.specified import CPU, Scans, made_up_fingerprint, plan_of


@pytest.fixture(scope="module")
def card() -> ModelCard:
    plan = plan_of(made_up_fingerprint(Scans((16, 16, 16), (1, 1, 1), count=50)), "cpu", CPU)
    return ModelCard(
        plan_name="cpu",
        configuration=plan.configurations["3d_fullres"],
        labels=LabelScheme(values=(0, 5), names=("background", "organ")),
        channel_names=("MRI",),
        fold=0,
        trained_cases=4,
        trained_iterations=10,
        trained_seconds=1.0,
    )


def test_a_model_file_is_all_that_is_needed(tmp_path: Path, card: ModelCard) -> None:
    network = build_network(card.configuration.model).eval()
    save_model(tmp_path / "model.safetensors", network, card)
    loaded_card, loaded = load_model(tmp_path / "model.safetensors")
    assert loaded_card == card
    image = torch.randn(1, 1, *card.configuration.model.patch_size_vox)
    assert torch.equal(loaded(image), network(image))


def test_other_users_may_read_a_model(tmp_path: Path, card: ModelCard) -> None:
    save_model(tmp_path / "model.safetensors", build_network(card.configuration.model), card)
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("model.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_files_that_are_no_models_are_refused(tmp_path: Path, card: ModelCard) -> None:
    with pytest.raises(AutosegError, match="does not exist"):
        load_model(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not a model")
    with pytest.raises(AutosegError, match="not a readable model file"):
        load_model(tmp_path / "text.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(AutosegError, match="not one of autoseg's"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "Upgrade autoseg"), (1, "Train or import it again")]
)
def test_another_format_says_what_to_do(
    tmp_path: Path, card: ModelCard, version: int, remedy: str
) -> None:
    network = build_network(card.configuration.model)
    other = card.model_copy(update={"format_version": version})
    save_model(tmp_path / "model.safetensors", network, other)
    with pytest.raises(AutosegError, match=rf"format {version} is not the one.*{remedy}"):
        load_model(tmp_path / "model.safetensors")
