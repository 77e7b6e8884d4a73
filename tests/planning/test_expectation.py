"""Covers: expectation."""

from pathlib import Path

import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.machine import Machine
from autoseg.networks import family_of
from tests.conftest import SHARED_DATA
from tests.planning.specified import plan_of

TWO_CORES = Machine(gpu_name=None, gpu_memory_gib=0, cores=2, memory_gib=16, bf16=True)
# Seconds a step that trainings took (docs/decisions/0023), two cores taking half of one's.
TRAININGS = {
    "hippocampus": {"cpu": 0.144, "deeplab": 0.245, "mednext": 0.33, "segformer": 0.44},
    "nuclei": {"cpu": 0.06, "fcn": 0.045, "deeplab": 0.38, "mednext": 0.285, "segformer": 0.145},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_steps_are_expected_to_take_about_as_long_as_they_did(
    name: str,
) -> None:
    data = SHARED_DATA / name
    if not data.is_dir():
        pytest.skip(f"real data are not here: {data}")
    fingerprint = make_fingerprint(open_dataset(data), workers=1)
    for rules, seconds in TRAININGS[name].items():
        plan = plan_of(fingerprint, rules, TWO_CORES, families=family_of)
        found = plan.expected[plan.recommended].step_seconds
        assert seconds / 1.6 < found < seconds * 1.6, (rules, found)


def test_a_step_takes_longer_without_half_precision_and_shorter_on_more_cores(
    hippocampus: Path,
) -> None:
    fingerprint = make_fingerprint(open_dataset(hippocampus), workers=1)

    def step_seconds(machine: Machine) -> float:
        plan = plan_of(fingerprint, "cpu", machine, families=family_of)
        return plan.expected["3d_fullres"].step_seconds

    slow = step_seconds(TWO_CORES.model_copy(update={"bf16": False}))
    assert 0.286 / 1.6 < slow < 0.286 * 1.6  # measured
    more_cores = TWO_CORES.model_copy(update={"bf16": False, "cores": 4})
    assert step_seconds(more_cores) == pytest.approx(slow / 2, rel=0.02)
