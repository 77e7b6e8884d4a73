"""Tasks: what networks are trained to say, and the table of them.

`task` says what a task brings to training and prediction, `voxel_answer` what scores of voxels
mean. `semantic` is a task of nothing else, `losses` are its losses; `distance` is it with objects
that are told apart, `depth` what it measures; so is `flow` with `directions`, and `numbering` tells
objects apart there. `mask_queries` finds masks as wholes: `mask_targets` are those to find,
`matching` says which query is to find which, `mask_losses` what that costs, and `query_layout` how
engines give what was found. `boxes` finds boxes with masks: `box_targets` are those to find,
`box_matching` says which of the network's are to find which, and `box_losses` what that costs.
`candidates` finds objects in one stage: `placed_objects` are those to find, `solo_loss` and
`yolact_loss` what each kind of network loses, on things that are `chosen`.
"""

from collections.abc import Callable
from typing import Any

from autoseg.dataset.labels import LabelScheme
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.boxes import boxes_task
from autoseg.tasks.candidates import candidates_task
from autoseg.tasks.distance import distance_task
from autoseg.tasks.flow import flow_task
from autoseg.tasks.mask_queries import mask_queries_task
from autoseg.tasks.semantic import semantic_task
from autoseg.tasks.task import Task

TASKS: dict[str, Callable[[Any, LossPlan, LabelScheme], Task]] = {
    "semantic": semantic_task,
    "distance": distance_task,
    "flow": flow_task,
    "mask_queries": mask_queries_task,
    "boxes": boxes_task,
    "solov2": candidates_task,
    "yolact": candidates_task,
}


def task_of(configuration: Configuration, labels: LabelScheme) -> Task:
    """The task that a configuration trains and predicts."""
    plan = configuration.model.task
    return TASKS[plan.kind](plan, configuration.run.loss, labels)
