import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.specified import RULE_SETS, fields_of_ours, specified_plan

GOLDEN = json.loads((Path(__file__).parent / "golden_plans.json").read_text())


@pytest.mark.parametrize("golden", GOLDEN, ids=range(len(GOLDEN)))
def test_plans_are_those_that_nnunet_made(golden: dict[str, Any]) -> None:
    configurations = specified_plan(golden["dataset"]).configurations
    assert set(configurations) == set(golden["plans"])
    for name, configuration in configurations.items():
        assert fields_of_ours(configuration) == golden["plans"][name]


def test_the_golden_plans_show_everything() -> None:
    datasets = [golden["dataset"] for golden in GOLDEN]
    assert {dataset["planner"] for dataset in datasets} == set(RULE_SETS)
    assert {dataset["memory_gib"] is None for dataset in datasets} == {True, False}
    assert {len(golden["plans"]) for golden in GOLDEN} == {1, 2, 4}  # 2d; 3d; low resolution too
    descriptions = [dataset["description"] for dataset in datasets]
    assert any("regions_class_order" in description for description in descriptions)
    assert any("ignore" in description["labels"] for description in descriptions)
