"""Starting from a model of other channels, labels, or another network."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from autoseg import extensions
from autoseg.checkpoint import (
    METADATA_KEY,
    ModelCard,
    build_network,
    read_tensors,
    save_model,
    save_tensors,
)
from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.model_plan import ScanInput, StageMaskInput
from autoseg.planning.network_plan import NetworkKind
from autoseg.training.initialization import initialize_from
from tests.training.blobs import card_of, changed_configuration, small_configuration

FIRST = {"plain_unet": "encoder.0.0.conv.weight", "residual_unet": "stem.conv.weight"}
TWO = LabelScheme(values=(0, 1, 2), names=("background", "other", "blob"))


def card_with(
    kind: str,
    dims: int = 3,
    channels: tuple[str, ...] = ("image",),
    labels: LabelScheme | None = None,
    **model: Any,
) -> ModelCard:
    """The card of a small network of a kind."""
    labels = labels or LabelScheme(values=(0, 1), names=("background", "blob"))
    configuration = changed_configuration(
        small_configuration(dims),
        model={"inputs": (ScanInput(channels=channels),), **model},
        network={"kind": kind, **({} if kind in FIRST else {"deep_supervision": False})},
        task={"classes": len(labels.values)},
    )
    return card_of(configuration, labels).model_copy(update={"channel_names": channels})


def saved(folder: Path, card: ModelCard) -> tuple[Path, dict[str, torch.Tensor]]:
    """A model file, and its weights, of which none is 0."""
    torch.manual_seed(3)
    network = build_network(card.configuration.model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    path = folder / "model.safetensors"
    save_model(path, network, card)
    return path, network.state_dict()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", FIRST)
def test_first_and_last_layers_are_matched_by_name(
    tmp_path: Path, kind: NetworkKind, dims: int
) -> None:
    model, given = saved(tmp_path, card_with(kind, dims))
    card = card_with(kind, dims, channels=("contrast", "Image"), labels=TWO)
    fresh = build_network(card.configuration.model)
    before = {name: weight.clone() for name, weight in fresh.state_dict().items()}
    report = initialize_from(fresh, card, model)
    own, first = fresh.state_dict(), FIRST[kind]
    heads = {name for name in own if name.startswith("decoder.heads.")}
    assert set(report.adapted) == {first} | heads
    assert not report.left
    assert torch.equal(own[first][:, 1:], given[first])  # of one name
    assert torch.equal(own[first][:, :1], given[first])  # the mean of all that is known
    for head in heads:
        assert torch.equal(own[head][[0, 2]], given[head])
        assert torch.equal(own[head][1], before[head][1])  # known to nobody
    for name in own.keys() - heads - {first}:
        assert torch.equal(own[name], given[name]), name
    assert own[first].ndim == dims + 2
    assert f"{len(own) - 1 - len(heads)} weights loaded" in report.text()


@pytest.mark.parametrize("kind", FIRST)
def test_new_channels_begin_as_the_mean_and_masks_at_0(tmp_path: Path, kind: NetworkKind) -> None:
    model, given = saved(tmp_path, card_with(kind, channels=("a", "b")))
    mask = StageMaskInput(stage="3d_lowres", classes=("blob",))
    card = card_with(kind, inputs=(ScanInput(channels=("b", "new", "a")), mask))
    fresh = build_network(card.configuration.model)
    initialize_from(fresh, card, model)
    own, known = fresh.state_dict()[FIRST[kind]], given[FIRST[kind]]
    assert torch.equal(own[:, [2, 0]], known)
    torch.testing.assert_close(own[:, 1], known.mean(1))
    assert not own[:, 3].any()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", FIRST)
def test_an_equal_model_is_loaded_as_it_is(tmp_path: Path, kind: NetworkKind, dims: int) -> None:
    card = card_with(kind, dims)
    model, given = saved(tmp_path, card)
    fresh = build_network(card.configuration.model)
    report = initialize_from(fresh, card, model)
    assert (set(report.loaded), report.adapted, report.left) == (set(given), (), ())
    assert all(torch.equal(weight, given[name]) for name, weight in fresh.state_dict().items())


def build_foreign(plan: object, channels: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv3d(channels, 4, 3, padding=1), torch.nn.Conv3d(4, outputs, 1)
    )


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A network of another package, of which no more is known than how it is built."""
    target = "tests.training.test_initialization:build_foreign"
    point = EntryPoint("foreign", target, "autoseg.networks")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    family_of.cache_clear()
    yield "foreign"
    family_of.cache_clear()


def test_where_layers_are_unknown_an_equal_model_is_loaded(tmp_path: Path, foreign: str) -> None:
    card = card_with(foreign, channels=("a", "b"), labels=TWO)
    model, given = saved(tmp_path, card)
    fresh = build_network(card.configuration.model)
    report = initialize_from(fresh, card, model)
    assert set(report.loaded) == set(given)
    assert all(torch.equal(weight, given[name]) for name, weight in fresh.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"channels": ("b", "a")}, r"channels are a, b, those of the plan b, a.*foreign"),
        ({"channels": ("a",)}, r"channels are a, b, those of the plan a"),
        (
            {"labels": LabelScheme(values=(0, 1, 2), names=("background", "blob", "other"))},
            r"labels are background, other, blob, those of the plan background, blob, other",
        ),
    ],
)
def test_where_layers_are_unknown_other_channels_and_labels_are_refused(
    tmp_path: Path, foreign: str, changes: dict[str, Any], refused: str
) -> None:
    model, _ = saved(tmp_path, card_with(foreign, channels=("a", "b"), labels=TWO))
    given: dict[str, Any] = {"channels": ("a", "b"), "labels": TWO}
    card = card_with(foreign, **given | changes)
    fresh = build_network(card.configuration.model)
    before = {name: weight.clone() for name, weight in fresh.state_dict().items()}
    with pytest.raises(AutosegError, match=refused):
        initialize_from(fresh, card, model)
    assert all(torch.equal(weight, before[name]) for name, weight in fresh.state_dict().items())


def test_a_model_of_another_network_is_refused(tmp_path: Path) -> None:
    card = card_with("plain_unet")
    other = {f"other.{i}": torch.zeros(2) for i in range(3)}
    model = tmp_path / "model.safetensors"
    save_tensors(model, other, {METADATA_KEY: card.model_dump_json()})
    network = build_network(card.configuration.model)
    with pytest.raises(AutosegError, match="not one of its weights fits"):
        initialize_from(network, card, model)
    assert read_tensors(model)[0].keys() == other.keys()
