"""Networks of one configuration, averaged over mirror images and over folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice

import torch

from autoseg.inference.engines import Runner
from autoseg.inference.mirroring import mirrors
from autoseg.tasks.query_layout import QueryLayout
from autoseg.tasks.task import Task
from autoseg.tasks.voxel_answer import VoxelAnswer


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Mean logits of all networks over all combinations of mirrored axes.

    Takes patches [n, channel, z, y, x] and gives logits [n, output, z, y, x] in float32 on the
    same device, which may be overwritten by a thread's next call. Of the mirror images, networks
    get at most `inputs_at_once` together, or those of one patch at a time. With
    `shows_disagreement` a further output is the share of networks that decide a voxel otherwise
    than all together. Of `queries`, which differ from one image to the next, nothing is averaged:
    patches give [n, network, mirror image, query, class + 1 + voxel].
    """

    runners: Sequence[Runner]
    spatial_dims: int
    mirror_axes: Sequence[int]
    task: Task
    inputs_at_once: int = 1
    shows_disagreement: bool = False
    queries: QueryLayout | None = None

    @torch.inference_mode()
    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        if self.queries is not None:
            looks = [self._looks(runner, patches, self.queries) for runner in self.runners]
            return torch.stack(looks, dim=1)
        count = len(self.runners) * 2 ** len(self.mirror_axes)
        sums = (self._over_mirrors(runner, patches) for runner in self.runners)
        if not self.shows_disagreement:
            total = reduce(torch.Tensor.add_, sums)
            return total.div_(count) if count > 1 else total
        return with_disagreement(
            [one / (count // len(self.runners)) for one in sums], self.task.answer
        )

    def _over_mirrors(self, runner: Runner, patches: torch.Tensor) -> torch.Tensor:
        """The sum of one network's logits over mirror images."""
        if not self.mirror_axes:  # no copy, unless a next call could overwrite what is still needed
            logits = self._run(runner, patches)
            return logits.clone() if self.runners[1:] else logits
        total: torch.Tensor | None = None
        left = mirrors([2 + axis for axis in self.mirror_axes])
        while together := list(islice(left, max(1, self.inputs_at_once // len(patches)))):
            inputs = torch.cat([patches.flip(axes) if axes else patches for axes in together])
            parts = torch.split(self._run(runner, inputs), len(patches))
            for axes, logits in zip(together, parts, strict=True):
                logits = self.task.seen_back(logits, axes)
                total = logits.clone() if total is None else total.add_(logits)
        assert total is not None
        return total

    def _looks(self, runner: Runner, patches: torch.Tensor, layout: QueryLayout) -> torch.Tensor:
        """What one network's queries find in each mirror image, as it lies in the patch."""
        looks = []
        for axes in mirrors([2 + axis for axis in self.mirror_axes]):
            images = patches.flip(axes) if axes else patches
            found = runner(images.squeeze(2) if self.spatial_dims == 2 else images)
            looks.append(layout.flipped(found.float(), axes).clone())
        return torch.stack(looks, dim=1)

    def _run(self, runner: Runner, patches: torch.Tensor) -> torch.Tensor:
        if self.spatial_dims == 2:
            return runner(patches.squeeze(2)).unsqueeze(2)  # patches are a single slice deep
        return runner(patches)


def with_disagreement(each: Sequence[torch.Tensor], answer: VoxelAnswer) -> torch.Tensor:
    """The mean of what networks give [n, output, z, y, x], and as a further output the share of
    them that decide a voxel otherwise than all together."""
    mean = torch.stack(list(each)).mean(0)
    votes = [answer.votes(one[:, : answer.outputs]) for one in (mean, *each)]
    others = [(own != votes[0]).any(1, keepdim=True) for own in votes[1:]]
    share = torch.stack(others).float().mean(0)  # [n, 1, z, y, x]
    return torch.cat((mean, share), dim=1)
