"""Covers: expectation."""

from pathlib import Path

import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.machine import Machine
from autoseg.networks import family_of
from autoseg.planning.cost import NetworkCost
from autoseg.planning.expectation import Speed
from tests.conftest import SHARED_DATA
from tests.planning.specified import CPU, Scans, configure, gpu, made_up_fingerprint, plan_of

TWO_CORES = Machine(gpu_name=None, gpu_memory_gib=0, cores=2, memory_gib=16, bf16=True)
# Seconds of a processor that steps took, halved, and of two for `cpu` on hippocampus
# (docs/decisions/0025-expected-times.md). Rates were fitted to those of nuclei and of `mednext`.
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


def test_a_step_is_what_each_of_its_parts_takes() -> None:
    cost = NetworkCost(elements=50, multiply_adds=1000, kept_bytes=7, weights=30, output_voxels=9)
    run = configure(made_up_fingerprint(Scans((40, 56, 40), (1, 1, 1))), "cpu", CPU).run
    speed = Speed(multiply_adds_per_s=500, elements_per_s=20, turned_weights_per_s=10)
    assert run.step_samples == 2
    # Forward and twice as much backward, then outputs, of two samples; weights once.
    assert speed.step_seconds(cost, run) == 3 * 1000 * 2 / 500 + 50 * 2 / 20 + 30 / 10
    sgd = run.model_copy(update={"training": run.training.model_copy(update={"optimizer": "sgd"})})
    assert speed.step_seconds(cost, sgd) == 3 * 1000 * 2 / 500 + 50 * 2 / 20
    assert Speed(500).step_seconds(cost, run) == 3 * 1000 * 2 / 500


def test_the_reason_has_every_rate_that_counts() -> None:
    for machine, known in ((CPU, 3), (gpu(8), 1)):
        plan = plan_of(made_up_fingerprint(Scans((40, 56, 40), (1, 1, 1))), "default", machine)
        (why,) = (d for d in plan.decisions if (d.name, d.configuration) == ("expectation", "2d"))
        assert len(why.facts) == known
        assert all(name.endswith("_per_s") for name in why.facts)


def test_a_step_takes_as_long_as_it_did_without_half_precision(hippocampus: Path) -> None:
    fingerprint = make_fingerprint(open_dataset(hippocampus), workers=1)
    machine = TWO_CORES.model_copy(update={"bf16": False})
    plan = plan_of(fingerprint, "cpu", machine, families=family_of)
    # 3,147 steps in 15 minutes of two hyperthreads (docs/decisions/0024-short-trainings.md)
    assert 0.286 / 1.6 < plan.expected["3d_fullres"].step_seconds < 0.286 * 1.6
