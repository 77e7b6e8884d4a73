"""Records of networks, told apart by their kind."""

import pytest
from pydantic import ValidationError

from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.network_plan import FCNPlan, UNetPlan, network_in_words

STAGE = {
    "features": 8,
    "kernel_size": [3, 3],
    "stride": [1, 1],
    "blocks": 2,
    "decoder_blocks": 1,
}
UNET = {
    "kind": "plain_unet",
    "stages": [STAGE],
    "norm": "instance",
    "activation": "leaky_relu",
    "bias": True,
    "upsampling": "transposed",
    "deep_supervision": True,
}


def model_with(network: dict[str, object]) -> ModelPlan:
    content = {
        "patch_size_vox": [8, 8],
        "inputs": [{"kind": "scan", "channels": ["CT"]}],
        "network": network,
        "task": {"kind": "semantic", "classes": 2},
    }
    return ModelPlan.model_validate(content)


def test_the_kind_says_which_record_a_network_is() -> None:
    assert isinstance(model_with(UNET).network, UNetPlan)
    fcn = {"kind": "fcn", "stages": [STAGE], "block": "plain", "skips": 0, "bias": True}
    assert isinstance(model_with(fcn).network, FCNPlan)


def test_a_saved_network_reads_as_it_was_written() -> None:
    model = model_with(UNET)
    saved = model.model_dump(mode="json")
    assert saved["network"] == {**UNET, "squeeze_excitation": False}
    assert ModelPlan.model_validate_json(model.model_dump_json()) == model


def test_a_network_that_nobody_knows_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="'bogus' is none of plain_unet, residual_unet"):
        model_with({**UNET, "kind": "bogus"})


def test_mistakes_are_named_by_their_place_alone() -> None:
    with pytest.raises(ValidationError) as caught:
        model_with({"kind": "fcn", "stages": [STAGE], "block": "plain", "skips": -1, "bias": True})
    assert caught.value.errors()[0]["loc"] == ("network", "skips")


def test_a_network_is_told_in_a_line() -> None:
    assert (
        network_in_words(model_with(UNET).network) == "plain_unet of 1 stages with 8 to 8 features"
    )
