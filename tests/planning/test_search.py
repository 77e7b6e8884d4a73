"""What the patch search counts: the loss's own memory, and networks of other packages."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from math import prod
from pathlib import Path

import pytest
from torch import nn

from autoseg import extensions
from autoseg.dataset.labels import LabelScheme
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import GIB
from autoseg.networks import family_of
from autoseg.networks.unet import PlainUNet
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.model_plan import SemanticPlan
from autoseg.planning.network_plan import UNetPlan
from autoseg.planning.plan import Configuration
from autoseg.planning.planner import expect
from autoseg.planning.rules import load_rule_set
from tests.planning.specified import Scans, configure, gpu, made_up_fingerprint, plan_of

LOSS_COUNTS = """
[[rule]]
id = "patch_size.loss"
decides = "patch_size_vox"
changes = { loss_bytes = 12 }
because = "the loss takes memory of its own"
source = "this test"
"""
OTHER_NETWORK = """
[[rule]]
id = "network.other"
decides = "network"
changes = { kind = "KIND" }
because = "another network"
source = "this test"
"""


def own_set(folder: Path, rules: str, parent: str) -> str:
    folder.mkdir()
    (folder / "ruleset.toml").write_text(f'title = "own"\nextends = "{parent}"\n')
    (folder / "own.toml").write_text(rules)
    return str(folder)


def of_classes(count: int) -> Fingerprint:
    names = ("background", *(f"class_{index}" for index in range(1, count)))
    labels = LabelScheme(values=tuple(range(count)), names=names)
    return made_up_fingerprint(Scans((300, 400, 400), (1, 1, 1), count=200), labels=labels)


def voxels_of_a_batch(configuration: Configuration) -> int:
    return configuration.run.batch_size * prod(configuration.model.patch_size_vox)


def test_the_loss_of_many_classes_leaves_less_to_patch_and_batch(tmp_path: Path) -> None:
    counting = own_set(tmp_path / "own", LOSS_COUNTS, "residual_l")
    for name in ("2d", "3d_fullres"):
        sizes = {
            (count, rules): voxels_of_a_batch(
                plan_of(of_classes(count), rules, gpu(24), families=family_of).configurations[name]
            )
            for count in (2, 100)
            for rules in ("residual_l", counting)
        }
        assert sizes[100, counting] < 0.9 * sizes[100, "residual_l"]
        assert sizes[2, counting] > 0.85 * sizes[2, "residual_l"]
        assert sizes[100, counting] < sizes[2, counting]


def test_by_default_the_loss_counts_on_a_gpu() -> None:
    many = plan_of(of_classes(100), "default", gpu(24), families=family_of).configurations
    few = plan_of(of_classes(2), "default", gpu(24), families=family_of).configurations
    for name in ("2d", "3d_fullres"):
        assert voxels_of_a_batch(many[name]) < voxels_of_a_batch(few[name])
    rules = load_rule_set("default")
    patch_rules = [r for r in rules.rules if r.decides == "patch_size_vox" and r.changes]
    assert {r.changes["loss_bytes"] for r in patch_rules if r.changes} == {12}
    assert "loss_bytes" not in load_rule_set("nnunet").default("patch_size_vox").model_fields_set


def test_what_is_expected_of_many_classes_holds_twelve_bytes_a_voxel_and_class() -> None:
    inputs = PlanningInputs(of_classes(2), load_rule_set("nnunet"), gpu(8), family_of)
    two = configure(of_classes(2), "nnunet", gpu(8))
    task = SemanticPlan(classes=100)
    model = two.model.model_copy(update={"task": task})
    hundred = two.model_copy(update={"model": model})
    before, after = (expect(inputs, c, None).memory_gib for c in (two, hundred))
    full_resolution = 12 * 98 * voxels_of_a_batch(two) / GIB
    # Deep supervision looks at half the resolution, at a quarter, …: an eighth of the voxels each.
    assert full_resolution < after - before < 1.2 * full_resolution


def build_wide(plan: UNetPlan, channels: int, outputs: int) -> nn.Module:
    """A U-Net of twice the features that are planned."""
    stages = [s.model_copy(update={"features": 2 * s.features}) for s in plan.stages]
    return PlainUNet(plan.model_copy(update={"stages": tuple(stages)}), channels, outputs)


@pytest.fixture
def other_networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A U-Net of twice the width, and the plain one, as another package's."""
    points = [
        EntryPoint("wide_unet", "tests.planning.test_search:build_wide", "autoseg.networks"),
        EntryPoint("plain_again", "autoseg.networks.unet:PlainUNet", "autoseg.networks"),
    ]
    monkeypatch.setattr(extensions, "entry_points", lambda group: points)
    family_of.cache_clear()
    yield
    family_of.cache_clear()


@pytest.mark.usefixtures("other_networks")
def test_networks_of_other_packages_are_planned_for_what_they_take(tmp_path: Path) -> None:
    scans = made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=200))
    found = {"plain_unet": plan_of(scans, "nnunet", gpu(2), families=family_of)}
    for kind in ("plain_again", "wide_unet"):
        rules = own_set(tmp_path / kind, OTHER_NETWORK.replace("KIND", kind), "nnunet")
        found[kind] = plan_of(scans, rules, gpu(2), families=family_of)
    voxels = {kind: voxels_of_a_batch(p.configurations["3d_fullres"]) for kind, p in found.items()}
    assert voxels["plain_again"] == pytest.approx(voxels["plain_unet"], rel=0.2)
    assert voxels["wide_unet"] < 0.7 * voxels["plain_again"]
    plain, wide = (found[kind].configurations["3d_fullres"] for kind in ("plain_unet", "wide_unet"))
    network = wide.model.network.model_copy(update={"stages": plain.model.network.stages})
    same_patch = plain.model.model_copy(update={"network": network})
    costs = [family_of(m.network.kind).cost(m) for m in (plain.model, same_patch)]
    assert costs[1].kept_bytes == pytest.approx(2 * costs[0].kept_bytes, rel=0.1)
    assert costs[1].weights == pytest.approx(4 * costs[0].weights, rel=0.1)
