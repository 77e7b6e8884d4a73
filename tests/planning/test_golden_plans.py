import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.specified import autoseg_plan, fields_of_ours

GOLDEN = json.loads((Path(__file__).parent / "golden_plans.json").read_text())


@pytest.mark.parametrize("golden", GOLDEN, ids=range(len(GOLDEN)))
def test_plans_are_those_that_nnunet_made(golden: dict[str, Any]) -> None:
    plans = autoseg_plan(golden["dataset"])
    assert set(plans) == set(golden["plans"])
    for name, plan in plans.items():
        assert fields_of_ours(plan) == golden["plans"][name]
