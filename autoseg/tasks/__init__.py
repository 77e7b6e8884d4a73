"""Tasks: what networks are trained to say, and the table of them.

`task` says what a task brings to training and prediction, `semantic` is one, `losses` are its
losses.
"""

from collections.abc import Callable

from autoseg.dataset.labels import LabelScheme
from autoseg.planning.model_plan import TaskPlan
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.semantic import semantic_task
from autoseg.tasks.task import Task

TASKS: dict[str, Callable[[TaskPlan, LossPlan, LabelScheme], Task]] = {
    "semantic": semantic_task,
}


def task_of(configuration: Configuration, labels: LabelScheme) -> Task:
    """The task that a configuration trains and predicts."""
    plan = configuration.model.task
    return TASKS[plan.kind](plan, configuration.run.loss, labels)
