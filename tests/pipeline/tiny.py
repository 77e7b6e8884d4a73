"""Plans and trainings so small that tests can run them."""

from pathlib import Path
from threading import Event
from typing import Any

from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.train import FoldResult, train_fold
from autoseg.planning.plan import Plan
from autoseg.training.metrics_log import SilentListener
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder

QUICK = (
    "training.iterations_per_epoch=2",
    "training.validation_iterations=1",
    "inference.mirror_axes=[]",
    "inference.step_fraction=1",
)
LITTLE_MEMORY = """
[[rule]]
id = "memory.tiny"
decides = "memory_gib"
value = { fixed_gib = 0.005 }
because = "a patch so small that a coarser configuration helps"
source = "this test"
"""
SMALL_NETWORK = """
[[rule]]
id = "network.tiny"
decides = "network"
because = "quick"
source = "this test"

[rule.value]
kind = "plain_unet"
base_features = 4
max_features = 8
blocks = [1]
decoder_blocks = 1
bias = true
deep_supervision = true
"""


def write_rules(folder: Path, rules: str = LITTLE_MEMORY + SMALL_NETWORK) -> Path:
    """A rule set of tiny networks."""
    folder.mkdir()
    (folder / "ruleset.toml").write_text('title = "tiny"\nextends = "cpu"\n')
    (folder / "tiny.toml").write_text(rules)
    return folder


def plan_quickly(dataset: Path, work: WorkFolder, rules: Path, *settings: str) -> Plan:
    job = PlanJob(
        dataset=dataset,
        work=work.root,
        rules=str(rules),
        target="cpu",
        settings=(*QUICK, *settings),
    )
    return plan_dataset(job, workers=1).plan


def train(work: WorkFolder, **job: Any) -> FoldResult:
    """Two iterations of a fold, or what is asked for."""
    asked = TrainJob(**{"work": work.root, "budget": Budget(iterations=2)} | job)
    return train_fold(asked, SilentListener(), Event())
