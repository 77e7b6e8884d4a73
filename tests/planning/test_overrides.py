import pytest

from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.network_plan import BUILT_IN_NETWORKS
from autoseg.planning.overrides import RULES_OF, find_value, with_settings
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.rules import load_rule_set
from tests.planning.specified import Scans, gpu, made_up_fingerprint, plan_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    scans = Scans((60, 60, 60), (1, 1, 1), cropped_vox=(30, 60, 60))
    return plan_of(made_up_fingerprint(scans), "default", gpu(8))


def changed(plan: Plan, *settings: str) -> Configuration:
    return with_settings(plan, settings, family_of).configurations["3d_fullres"]


@pytest.mark.parametrize("size", ["[64,32,32]", "64,32,32", "[64, 32, 32]", "64, 32, 32"])
def test_lists_need_no_brackets(plan: Plan, size: str) -> None:
    found = changed(plan, f"3d_fullres.patch_size_vox={size}")
    assert found.model.patch_size_vox == (64, 32, 32)


def test_a_channel_is_set_by_its_number(plan: Plan) -> None:
    found = changed(plan, "normalization.0.masked=false", "normalization.0.kind=ct")
    assert found.grid.normalization[0].kind == "ct"
    with pytest.raises(AutosegError, match=r"Set normalization\.0\.masked=false first"):
        changed(plan, "normalization.0.kind=ct")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("training.epoch=5", "a plan has no such key. Did you mean training.epochs?"),
        ("epochs=5", "a plan has no such key. Did you mean training.epochs?"),
        ("training.epochs=few", "must be a whole number, not 'few'."),
        ("training.epochs=5.5", "must be a whole number, not 5.5."),
        ("training.learning_rate=fast", "must be a number, not 'fast'."),
        ("model.patch_size_vox=few", "must be a list, such as [1,2,3], not 'few'."),
        ("model.patch_size_vox=64,few,32", "must be a list, such as [1,2,3], not '64,few,32'."),
        ("model.patch_size_vox=64,1.5,32", "1 must be a whole number, not 1.5."),
        ("network.deep_supervision=perhaps", "must be true or false, not 'perhaps'."),
        ("grid.orientation=sideways", "must be 'as_stored' or 'canonical'."),
        ("inference.step_fraction=2", "must be at most 1.0."),
        ("model.inputs=1", "this follows from the dataset and cannot be set."),
    ],
)
def test_a_mistake_is_told_in_words_with_its_key_once(plan: Plan, setting: str, told: str) -> None:
    with pytest.raises(AutosegError) as refused:
        changed(plan, setting)
    message = str(refused.value)
    assert message.startswith(f"--set {setting}: ")
    assert message.endswith(told)
    assert "Input should" not in message


def test_keys_may_leave_out_their_part(plan: Plan) -> None:
    configuration = plan.configurations["3d_fullres"]
    found = find_value(configuration, "training.epochs")
    assert found is not None and found.path == "run.training.epochs"
    assert found.value == configuration.run.training.epochs
    assert find_value(configuration, "training.epoch") is None


def test_a_patch_of_which_one_voxel_would_be_left_is_refused(plan: Plan) -> None:
    divisor = family_of("plain_unet").patch_divisor(plan.configurations["3d_fullres"].model.network)
    size = ",".join(map(str, divisor))
    with pytest.raises(AutosegError, match="leaves a single voxel"):
        changed(plan, f"3d_fullres.patch_size_vox={size}")
    larger = ",".join(map(str, (2 * divisor[0], *divisor[1:])))
    assert (
        changed(plan, f"3d_fullres.patch_size_vox={larger}").model.patch_size_vox[1:] == divisor[1:]
    )


def test_what_rules_alone_decide_is_told(plan: Plan) -> None:
    for key in ("network.kernel_edge=5", "base_features=4"):
        with pytest.raises(AutosegError, match="is of rules that decide `network`"):
            with_settings(plan, [key], family_of)


def test_every_network_but_u_nets_is_told_with_rule_sets_that_plan_it() -> None:
    assert {*RULES_OF} == {*BUILT_IN_NETWORKS} - {"plain_unet", "residual_unet"}
    for kind, names in RULES_OF.items():
        assert all(load_rule_set(name).default("network").kind == kind for name in names)


def test_another_family_of_networks_is_refused_with_the_rules_that_plan_it(plan: Plan) -> None:
    with pytest.raises(AutosegError, match=r"rules plan: use a rule set .*\(segformer\)"):
        with_settings(plan, ["network.kind=segformer"], family_of)
    changed = with_settings(plan, ["3d_fullres.network.kind=residual_unet"], family_of)
    assert changed.configurations["3d_fullres"].model.network.kind == "residual_unet"
    with pytest.raises(AutosegError, match="'bogus' is none of plain_unet, residual_unet, fcn"):
        with_settings(plan, ["network.kind=bogus"], family_of)
