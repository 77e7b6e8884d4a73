import pytest
import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.model_plan import MaskQueriesPlan
from autoseg.planning.run_plan import LossPlan, MatchingPlan
from autoseg.tasks.losses import find_loss
from autoseg.tasks.mask_queries import MaskQueriesTask, mask_queries_task
from tests.tasks.test_losses import loss_plan

LABELS = LabelScheme(values=(0, 1, 2), names=("background", "cell", "tissue"), things=("cell",))
PLAN = MaskQueriesPlan(classes=3, things=(1,), queries=4, mask_stride=(2, 4))
LOSS = LossPlan(
    kind="matched_masks", batch_dice=False, dice_smooth=1, matching=MatchingPlan(points=50)
)


def task() -> MaskQueriesTask:
    return mask_queries_task(PLAN, LOSS, LABELS)


def found() -> QueryOutputs:
    """Three queries see background, a cell to the left, and tissue to the right; one nothing."""
    masks = torch.full((1, 4, 4, 4), -9.0)
    masks[0, 0, :, 1:3] = masks[0, 1, :, :1] = masks[0, 2, :, 3:] = 9.0
    masks[0, 3] = 9.0
    return QueryOutputs(9.0 * torch.eye(4)[None], masks)


def test_decisions_are_of_the_patchs_size_and_classes() -> None:
    decided = task().answer.decision(task().scores([found()]))
    assert decided.shape == (1, 2, 8, 16)
    assert decided[0, 0, 4].tolist() == [True] * 4 + [False] * 12
    assert decided[0, 1, 4].tolist() == [False] * 12 + [True] * 4
    assert task().answer.names == ("cell", "tissue")
    assert task().answer.outputs == PLAN.outputs == 3


def test_truth_is_of_classes_and_the_loss_falls_with_the_truth() -> None:
    labels = torch.zeros((1, 8, 16), dtype=torch.uint8)
    labels[..., :4], labels[..., 12:] = 1, 2
    targets = task().targets(labels, (labels == 1).int())
    assert torch.equal(task().labels(targets), labels)
    torch.manual_seed(0)
    right = float(task().loss([found()], targets))
    other = found()._replace(masks=-found().masks)
    assert right < 0.2 * float(task().loss([other], targets))


def test_losses_of_voxels_and_of_masks_are_not_mixed_up() -> None:
    with pytest.raises(AutosegError, match="a loss of its own"):
        mask_queries_task(PLAN, loss_plan("ce_dice"), LABELS)
    with pytest.raises(AutosegError, match="of whole objects"):
        find_loss("matched_masks")
