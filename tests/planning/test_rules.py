"""Covers: rule."""

import re
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
    smallest_class_part_of_equal_share=0.04,
    smallest_class_image_fraction=0.001,
    smallest_class_component_vox=500,
    largest_class_component_vox=5000,
    has_regions=False,
    has_ignore_label=False,
    left_right_pairs=0,
    has_things=False,
    has_border=False,
    touching_fraction=0.0,
    objects_in_scan=0.0,
    object_size_spread=1.0,
    small_thing_mm=0.0,
    smallest_object_vox=20.0,
    object_solidity=1.0,
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

CHANGE = """
[[rule]]
id = "training.own"
decides = "training"
changes = { epochs = 200 }
because = "less time"
source = "a test"
"""
GUIDE = Path(__file__).parents[2] / "docs" / "training.md"


def own_set(folder: Path, rules: str, header: str = 'title = "own"\nextends = "nnunet"\n') -> str:
    folder.mkdir(exist_ok=True)
    (folder / "ruleset.toml").write_text(header)
    (folder / "own.toml").write_text(rules)
    return str(folder)


def test_built_in_rule_sets_are_found_and_complete() -> None:
    names = sorted(path.parent.name for path in rules_dir().glob("*/ruleset.toml"))
    assert names == [
        "cpu", "deeplab", "default", "fcn", "flow", "mask_queries", "mask_rcnn", "maskformer",
        "mednext", "networks", "nnunet", "objects", "residual_l", "residual_m", "residual_xl",
        "segformer", "solov2", "yolact",
    ]  # fmt: skip
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
    with pytest.raises(AutosegError, match="Built-in sets: cpu, deeplab, default, fcn"):
        load_rule_set("nnunett")
    with pytest.raises(AutosegError, match="Did you mean segformer"):
        load_rule_set("segfomer")


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


def test_changes_replace_single_values_of_what_the_parent_decides(tmp_path: Path) -> None:
    published, before = load_rule_set("nnunet").decide("training", FACTS)
    rules = load_rule_set(own_set(tmp_path / "own", CHANGE))
    settings, decision = rules.decide("training", FACTS)
    assert settings == published.model_copy(update={"epochs": 200})
    assert rules.default("training") == settings
    assert decision.value == before.value | {"epochs": 200}
    assert decision.rule_id == "training.own"
    assert (decision.because, decision.source) == ("less time", "a test")


def test_the_facts_choose_the_rule_that_is_changed(tmp_path: Path) -> None:
    rule = CHANGE.replace("epochs = 200", "momentum = 0.9")
    rules = load_rule_set(own_set(tmp_path / "own", rule, 'title = "own"\nextends = "default"\n'))
    few, decision = rules.decide("training", FACTS.with_known(case_count=10))
    many, _ = rules.decide("training", FACTS.with_known(case_count=100))
    assert (few.epochs, few.momentum) == (500, 0.9)
    assert (many.epochs, many.momentum) == (1000, 0.9)
    assert decision.facts == {"case_count": 10}
    assert rules.default("training") == many


def test_changes_of_changes_add_up_and_the_nearest_wins(tmp_path: Path) -> None:
    own_set(tmp_path / "parent", CHANGE.replace("epochs = 200", "epochs = 200, momentum = 0.9"))
    few = "when = { case_count = { less_than = 20 } }\nchanges = { weight_decay = 0.5 }"
    rules = CHANGE.replace("changes = { epochs = 200 }", few) + CHANGE.replace("own", "always")
    rules = rules.replace("epochs = 200", "epochs = 70")
    child = load_rule_set(own_set(tmp_path / "child", rules, 'title = "c"\nextends = "parent"\n'))
    settings, decision = child.decide("training", FACTS)
    assert (settings.epochs, settings.momentum, settings.weight_decay) == (70, 0.9, 0.5)
    assert settings.iterations_per_epoch == 250
    assert decision.rule_id == "training.own"


def test_changes_of_equal_id_start_from_the_rule_of_the_parent_where_it_holds(
    tmp_path: Path,
) -> None:
    rule = CHANGE.replace("training.own", "training.small_dataset").replace("200", "70")
    rules = load_rule_set(own_set(tmp_path / "own", rule, 'title = "o"\nextends = "default"\n'))
    assert [r.id for r in rules.rules].count("training.small_dataset") == 2
    slower = load_rule_set(
        own_set(
            tmp_path / "slower",
            rule.replace("epochs = 70", "momentum = 0.9"),
            'title = "s"\nextends = "own"\n',
        )
    )
    settings, _ = slower.decide("training", FACTS)
    assert (settings.epochs, settings.momentum) == (70, 0.9)


def test_a_value_of_equal_id_replaces_changes_and_what_they_would_change(tmp_path: Path) -> None:
    parent = OWN_RULE.replace("loss.own", "loss.ce_dice").replace("value", "changes")
    own_set(tmp_path / "parent", parent)
    child = OWN_RULE.replace("loss.own", "loss.ce_dice").replace("1.0", "0.5")
    with pytest.raises(AutosegError, match="no rule without conditions decides loss"):
        load_rule_set(own_set(tmp_path / "child", child, 'title = "c"\nextends = "parent"\n'))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("epochs =", "epoch =", "changes: epoch: .*Did you mean 'epochs'"),
        ("epochs = 200", 'epochs = "long"', "changes: epochs: Input should be a valid integer"),
        ("epochs = 200", "epochs = 0", "changes: epochs: Input should be greater than 0"),
        ("{ epochs = 200 }", "200", "changes: .*It must be a table"),
        (
            '"training"\nchanges = { epochs',
            '"orientation"\nchanges = { is',
            "one value, not a table",
        ),
        ("changes", "value = { epochs = 1 }\nchanges", "both `value` and `changes`"),
        ("changes", "# changes", "neither `value` nor `changes`"),
        ("changes", "chnges", "Did you mean 'changes'"),
    ],
)
def test_a_mistake_in_changes_is_named_with_file_and_rule(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    folder = own_set(tmp_path / "own", CHANGE.replace(before, after, 1))
    with pytest.raises(AutosegError, match=message) as error:
        load_rule_set(folder)
    assert "own.toml: rule training.own" in str(error.value)


def test_all_mistakes_in_changes_are_named_at_once(tmp_path: Path) -> None:
    rule = CHANGE.replace("epochs = 200", "epoch = 200, momentum = 2")
    with pytest.raises(AutosegError, match=r"(?s)momentum.*Did you mean 'epochs'"):
        load_rule_set(own_set(tmp_path / "own", rule))


def test_changes_of_nothing_are_refused(tmp_path: Path) -> None:
    message = "no rule without conditions decides training, which training.own would change"
    with pytest.raises(AutosegError, match=message):
        load_rule_set(own_set(tmp_path / "own", CHANGE, 'title = "own"\n'))


def test_a_rule_after_unconditional_changes_is_refused(tmp_path: Path) -> None:
    later = CHANGE.replace("own", "later").replace("changes", "when = { cores = {} }\nchanges")
    with pytest.raises(AutosegError, match=r"training\.later can never be reached"):
        load_rule_set(own_set(tmp_path / "own", CHANGE + later))


MEMORY = """
[[rule]]
id = "memory.own"
decides = "memory_gib"
when = { device = { is = "cpu" } }
changes = { fixed_gib = 4 }
because = "less memory"
source = "a test"
"""


def test_changes_that_do_not_fit_a_rule_they_may_change_are_refused(tmp_path: Path) -> None:
    message = r"rule memory\.own: changes of what rule memory\.given gives: .*not both"
    with pytest.raises(AutosegError, match=message):
        load_rule_set(own_set(tmp_path / "own", MEMORY))


def test_changes_need_not_fit_a_rule_that_never_holds_with_them(tmp_path: Path) -> None:
    gpu = MEMORY.replace("own", "gpu").replace('"cpu"', '"gpu"')
    gpu = gpu.replace("changes = { fixed_gib = 4 }", "value = { gpu_fraction = 0.5 }")
    always = MEMORY.replace("own", "always").replace("when", "# when").replace("changes", "value")
    own_set(tmp_path / "parent", gpu + always)
    rule = MEMORY.replace("fixed_gib = 4", "fixed_gib = 2")
    rules = load_rule_set(own_set(tmp_path / "own", rule, 'title = "o"\nextends = "parent"\n'))
    assert rules.decide("memory_gib", FACTS)[0].gpu_fraction == 0.5
    assert rules.default("memory_gib").fixed_gib == 4


@pytest.mark.parametrize(("name", "gib"), [("residual_m", 8), ("residual_l", 24)])
def test_presets_have_their_own_memory_unless_it_is_given(name: str, gib: float) -> None:
    rules = load_rule_set(name)
    assert rules.decide("memory_gib", FACTS)[0].fixed_gib == gib
    assert rules.decide("memory_gib", FACTS.with_known(memory_given=True))[0].gpu_fraction == 1
    assert rules.decide("network", FACTS)[0].kind == "residual_unet"
    assert rules.decide("patch_size_vox", FACTS)[0].reference_memory_gib == gib


def test_the_rule_of_the_guide_can_be_loaded(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "[[rule]]" in block]
    rules = load_rule_set(own_set(tmp_path / "own", example, 'title = "o"\nextends = "default"\n'))
    assert rules.decide("training", FACTS)[0].epochs == 200
