"""Starting from files as others lay them out, made here."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.networks.deeplab_family import stages_to
from autoseg.networks.mednext_family import SIZES, stages_of
from autoseg.networks.segformer_family import MixTransformer, segformer_of
from autoseg.planning.network_plan import MedNeXtPlan, NetworkPlan, ResNetDepth
from autoseg.training.initialization import initialize_from
from autoseg.training.published import is_published
from tests.networks.every_network import PATCHES, deeplab, fcn, segformer, topology_of
from tests.training.blobs import card_of, small_configuration


def card_with(network: NetworkPlan, dims: int) -> ModelCard:
    configuration = small_configuration(dims)
    update = {"network": network, "patch_size_vox": PATCHES[dims]}
    model = configuration.model.model_copy(update=update)
    return card_of(configuration.model_copy(update={"model": model}))


def resnet_file(path: Path, channels: int = 3) -> dict[str, torch.Tensor]:
    """A tiny ResNet of images, as torchvision saves one: with moments and a classifier."""
    torch.manual_seed(5)
    network = family_of("deeplabv3plus").build(deeplab(2), channels, 2)
    inside = "encoder."
    weights = {
        name.removeprefix(inside): torch.randn_like(weight)
        for name, weight in network.state_dict().items()
        if name.startswith(inside)
    }
    extra = {"bn1.running_mean": torch.zeros(4), "fc.weight": torch.zeros(10, 32)}
    saved = weights | extra
    torch.save(saved, path) if path.suffix == ".pth" else save_file(saved, path)
    return weights


@pytest.mark.parametrize("name", ["resnet18.pth", "model.safetensors"])
def test_a_resnet_of_colours_begins_an_encoder_of_one_channel(name: str, tmp_path: Path) -> None:
    theirs = resnet_file(tmp_path / name)
    card = card_with(deeplab(2), 2)
    network = build_network(card.configuration.model)
    found = initialize_from(network, card, tmp_path / name)
    own = network.state_dict()
    assert found.adapted == ("encoder.conv1.weight",)
    torch.testing.assert_close(
        own["encoder.conv1.weight"], theirs["conv1.weight"].sum(1, keepdim=True)
    )
    assert torch.equal(own["encoder.layer4.1.conv2.weight"], theirs["layer4.1.conv2.weight"])
    assert not any(left.startswith("encoder.") for left in found.left)
    assert "weights loaded" in found.text()


def published_resnet(depth: int, base: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet-18 or -50, of a width, but for moments."""
    kernels, expansion = ((3, 3), 1) if depth == 18 else ((1, 3, 1), 4)
    blocks = (2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (base, 3, 7, 7)}

    def norm(name: str, features: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (features,)

    norm("bn1", base)
    given = base
    for layer, count in enumerate(blocks):
        width = base * 2**layer
        for block in range(count):
            name, seen = f"layer{layer + 1}.{block}", given
            for index, edge in enumerate(kernels, 1):
                wide = width * (expansion if index == len(kernels) else 1)
                shapes[f"{name}.conv{index}.weight"] = (wide, seen, edge, edge)
                norm(f"{name}.bn{index}", wide)
                seen = wide
            if block == 0 and (layer or expansion > 1):
                shapes[f"{name}.downsample.0.weight"] = (seen, given, 1, 1)
                norm(f"{name}.downsample.1", seen)
            given = seen
    return shapes


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("depth", [18, 50])
def test_every_weight_of_torchvisions_layout_is_taken(
    depth: ResNetDepth, prefix: str, tmp_path: Path
) -> None:
    shapes = published_resnet(depth, 4)
    moments = {f"{prefix}bn1.num_batches_tracked": torch.tensor(1)}
    named = {prefix + name: torch.randn(shape) for name, shape in shapes.items()}
    torch.save(named | moments | {f"{prefix}fc.bias": torch.zeros(9)}, tmp_path / "resnet.pth")
    plan = deeplab(2)
    stages = stages_to(topology_of(2), depth, 8, 4)
    plan = plan.model_copy(update={"depth": depth, "stages": stages})
    card = card_with(plan, 2)
    network = family_of("deeplabv3plus").build(plan, 3, 2)
    found = initialize_from(network, card, tmp_path / "resnet.pth")
    assert set(found.loaded) == {f"encoder.{name}" for name in shapes}
    assert not any(name.startswith("encoder.") for name in found.left)


def test_three_channels_are_not_adapted(tmp_path: Path) -> None:
    theirs = resnet_file(tmp_path / "resnet18.pth")
    card = card_with(deeplab(2), 2)
    network = family_of("deeplabv3plus").build(deeplab(2), 3, 2)
    found = initialize_from(network, card, tmp_path / "resnet18.pth")
    assert found.adapted == ()
    assert torch.equal(network.state_dict()["encoder.conv1.weight"], theirs["conv1.weight"])


def test_a_resnet_of_images_begins_one_of_volumes(tmp_path: Path) -> None:
    theirs = resnet_file(tmp_path / "resnet18.pth")
    card = card_with(deeplab(3), 3)
    network = build_network(card.configuration.model)
    initialize_from(network, card, tmp_path / "resnet18.pth")
    kernel = network.state_dict()["encoder.layer3.0.conv2.weight"]
    assert kernel.shape[2] == 3
    torch.testing.assert_close(kernel.sum(2), theirs["layer3.0.conv2.weight"])


def test_weights_for_which_no_network_is_known_are_refused(tmp_path: Path) -> None:
    resnet_file(tmp_path / "resnet18.pth")
    card = card_with(fcn(2), 2)
    with pytest.raises(AutosegError, match="of fcn no published weights are known"):
        initialize_from(build_network(card.configuration.model), card, tmp_path / "resnet18.pth")
    card = card_with(segformer(2), 2)
    with pytest.raises(AutosegError, match="not one of its weights fits the planned segformer"):
        initialize_from(build_network(card.configuration.model), card, tmp_path / "resnet18.pth")


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weight": Path("code")}, path)
    card = card_with(deeplab(2), 2)
    with pytest.raises(AutosegError, match="cannot be read as weights alone"):
        initialize_from(build_network(card.configuration.model), card, path)


def test_a_segformer_of_colours_begins_one_of_our_channels(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    stem = torch.randn(4, 3, 7, 7)
    query = torch.randn(8, 8)
    save_file(
        {
            "segformer.encoder.patch_embeddings.0.proj.weight": stem,
            "segformer.encoder.block.1.0.attention.self.query.weight": query,
            "segformer.encoder.layer_norm.9.weight": torch.randn(3),
        },
        path,
    )
    assert is_published(path)
    card = card_with(segformer(2), 2)
    network = build_network(card.configuration.model)
    found = initialize_from(network, card, path)
    own = network.state_dict()
    torch.testing.assert_close(own["encoder.0.embed.weight"], stem.sum(1, keepdim=True))
    assert torch.equal(own["encoder.1.blocks.0.attention.query.weight"], query)
    assert (len(found.loaded), found.adapted) == (1, ("encoder.0.embed.weight",))
    finer = segformer_of(MixTransformer((1, 1, 2, 1), (4, 8, 10, 8), 8), topology_of(2), 2)
    card = card_with(finer, 2)
    found = initialize_from(build_network(card.configuration.model), card, path)
    assert found.loaded == ("encoder.1.blocks.0.attention.query.weight",)
    assert "encoder.0.embed.weight" in found.left


def test_larger_kernels_begin_from_smaller_ones(tmp_path: Path) -> None:
    small, large = (
        MedNeXtPlan(stages=stages_of(SIZES["s"], topology_of(3), 4, edge), deep_supervision=True)
        for edge in (3, 5)
    )
    card = card_with(small, 3)
    network = build_network(card.configuration.model)
    save_model(tmp_path / "k3.safetensors", network, card)
    wanted = card_with(large, 3)
    found = initialize_from(
        build_network(wanted.configuration.model), wanted, tmp_path / "k3.safetensors"
    )
    assert found.left == ()
    assert found.adapted and all("depthwise.weight" in name for name in found.adapted)
