from pathlib import Path

import pytest

from autoseg.errors import AutosegError
from autoseg.planning.facts import Facts
from autoseg.planning.rules import load_rule_set, rules_dir

FACTS = Facts(
    configuration="3d_fullres",
    case_count=10,
    channel_count=1,
    class_count=3,
    median_crop_fraction=0.5,
    median_spacing_ratio=1.0,
    spacing_spread=0.0,
    only_slices=False,
    slice_directions=1,
    smallest_class="tumour",
    smallest_class_foreground_fraction=0.02,
    smallest_class_image_fraction=0.001,
    smallest_class_component_vox=500,
    has_regions=False,
    has_ignore_label=False,
    left_right_pairs=0,
    device="gpu",
    gpu_memory_gib=24,
    memory_given=False,
    cores=8,
    memory_gib=64,
    bf16=True,
)

OWN_RULE = """
[[rule]]
id = "loss.own"
decides = "loss"
when = { smallest_class_foreground_fraction = { less_than = 0.1 } }
value = { kind = "ce_dice", dice_smooth = 1.0 }
because = "{smallest_class} fills {smallest_class_foreground_fraction:.0%} of the foreground"
source = "a test"
"""


def own_set(folder: Path, rules: str, header: str = 'title = "own"\nextends = "nnunet"\n') -> str:
    folder.mkdir(exist_ok=True)
    (folder / "ruleset.toml").write_text(header)
    (folder / "own.toml").write_text(rules)
    return str(folder)


def test_built_in_rule_sets_are_found_and_complete() -> None:
    names = sorted(path.parent.name for path in rules_dir().glob("*/ruleset.toml"))
    assert names == ["cpu", "default", "nnunet", "residual_l", "residual_m", "residual_xl"]
    for name in names:
        assert load_rule_set(name).title


def test_own_rules_come_before_those_of_the_parent(tmp_path: Path) -> None:
    rules = load_rule_set(own_set(tmp_path / "own", OWN_RULE))
    settings, decision = rules.decide("loss", FACTS)
    assert settings.dice_smooth == 1.0
    assert decision.rule_id == "loss.own"
    assert decision.because == "tumour fills 2% of the foreground"
    assert decision.facts == {
        "smallest_class": "tumour",
        "smallest_class_foreground_fraction": 0.02,
    }


def test_a_rule_that_does_not_hold_leaves_it_to_the_parent(tmp_path: Path) -> None:
    rules = load_rule_set(own_set(tmp_path / "own", OWN_RULE))
    _, decision = rules.decide("loss", FACTS.with_known(smallest_class_foreground_fraction=0.5))
    assert decision.rule_id == "loss.ce_dice"


def test_cpu_extends_default_extends_nnunet() -> None:
    rules = load_rule_set("cpu")
    assert rules.decide("memory_gib", FACTS)[1].rule_id == "memory.cpu"
    assert rules.decide("orientation", FACTS)[1].rule_id == "orientation.canonical"
    assert rules.decide("loss", FACTS)[1].rule_id == "loss.ce_dice"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("smallest_class_foreground_fraction =", "smallest_clas_fraction =", "Did you mean"),
        ('decides = "loss"', 'decides = "los"', "unknown decision 'los'. Did you mean 'loss'"),
        ("less_than", "lower_than", r"lower_than.*"),
        ("because", "becuase", "Did you mean 'because'"),
        ('kind = "ce_dice"', 'kind = "ce_dise"', "loss.own: value"),
        ("dice_smooth", "dice_smoth", "dice_smoth"),
        ("{smallest_class} fills", "{smalest} fills", "unknown fact 'smalest'"),
    ],
)
def test_a_mistake_is_named_with_file_and_rule(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    folder = own_set(tmp_path / "own", OWN_RULE.replace(before, after, 1))
    with pytest.raises(AutosegError, match=message) as error:
        load_rule_set(folder)
    assert "own.toml: rule loss.own" in str(error.value)


def test_a_rule_that_can_never_be_reached_is_an_error(tmp_path: Path) -> None:
    unconditional = OWN_RULE.replace("when", "# when")
    later = OWN_RULE.replace("loss.own", "loss.later")
    with pytest.raises(AutosegError, match=r"loss\.later can never be reached"):
        load_rule_set(own_set(tmp_path / "own", unconditional + later))


def test_a_set_without_parent_needs_every_default(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="no rule without conditions decides batch_size"):
        load_rule_set(own_set(tmp_path / "own", OWN_RULE, 'title = "own"\n'))


def test_unknown_sets_are_answered_with_those_there_are() -> None:
    with pytest.raises(AutosegError, match="Built-in sets: cpu, default, nnunet"):
        load_rule_set("nnunett")


def test_text_facts_are_not_compared_as_numbers(tmp_path: Path) -> None:
    rule = OWN_RULE.replace("smallest_class_foreground_fraction = {", "device = {", 1)
    with pytest.raises(AutosegError, match=r"loss\.own: device is no number"):
        load_rule_set(own_set(tmp_path / "own", rule))


def test_a_default_that_got_a_condition_leaves_the_set_incomplete(tmp_path: Path) -> None:
    rule = OWN_RULE.replace("loss.own", "loss.ce_dice")
    with pytest.raises(AutosegError, match="no rule without conditions decides loss"):
        load_rule_set(own_set(tmp_path / "own", rule))


def test_a_reason_may_name_a_fact_that_is_not_known_yet(tmp_path: Path) -> None:
    rule = OWN_RULE.replace("{smallest_class} fills", "{patch_fraction_of_median_image:.0%} and")
    rules = load_rule_set(own_set(tmp_path / "own", rule))
    assert rules.decide("loss", FACTS)[1].because.startswith("an unknown part and")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('decides = "batch_size"\nvalue = 4', "keys of BatchSettings: fill, minimum"),
        (
            'decides = "loss"\nwhen = { smallest_clas = { below = 1 } }\nvalue = {}',
            "unknown fact 'smallest_clas'. Did you mean 'smallest_class'",
        ),
    ],
)
def test_natural_mistakes_are_answered_with_what_is_valid(
    tmp_path: Path, rule: str, message: str
) -> None:
    text = f'[[rule]]\nid = "x"\n{rule}\nbecause = "b"\nsource = "s"\n'
    with pytest.raises(AutosegError) as error:
        load_rule_set(own_set(tmp_path / "own", text))
    assert message in str(error.value)
