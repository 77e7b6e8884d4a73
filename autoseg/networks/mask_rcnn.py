"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) in 2D and 3D, with the steps of Cascade R-CNN (Cai
and Vasconcelos 2018, arXiv:1712.00726), the points of PointRend and the branch of Panoptic FPN.

A network takes [batch, channel, *patch], a multiple of all strides, and gives scores [batch, class,
*patch]; with `all_resolutions` one `BoxOutputs` that it learns from. It does the same with any
image, whatever is in it: so many boxes are looked at, and so many have masks. So no device is asked
how many there are, tracing finds all memory of a step, and engines can run it; and what it learns
from are its own boxes, as in prediction, none of them told.
"""

from math import ceil
from typing import NamedTuple

import torch
from torch import nn

from autoseg.networks.blocks import ConvShape, ResidualBlock, conv_norm_act, initialize, resized
from autoseg.networks.box_geometry import decoded, within_patch
from autoseg.networks.detections import Detected, as_queries, detected
from autoseg.networks.feature_pyramid import DenseBranch, FeaturePyramid
from autoseg.networks.mask_queries import QueryOutputs, class_scores, packed_queries
from autoseg.networks.point_rend import PointHead, Points, SeenRegions, refined, unsure_places
from autoseg.networks.region_heads import BoxHead, MaskHead, Regions
from autoseg.networks.region_proposals import ProposalHead, Proposals, anchors_at, likeliest
from autoseg.networks.roi_align import Pyramid, roi_align
from autoseg.networks.unet import encode, encoder_stages
from autoseg.planning.network_plan import BoxNetworkPlan

# What a box's moves and growths are divided by, so that a head gives numbers about 1; a later step
# has less left to do (Cai and Vasconcelos 2018; detectron2 has the same).
UNITS = ((10.0, 5.0), (20.0, 10.0), (30.0, 15.0))
# Of a patch's many detections, the surest first, the share from whose masks a network learns. There
# are several times as many as a patch has objects in the mean, and only those of an object count;
# the less sure ones of a crowded patch teach no masks.
LEARNED_SHARE, LEAST_LEARNED = 0.25, 16


class BoxOutputs(NamedTuple):
    """What training looks at: proposals, the regions of each step, the surest boxes with masks
    [batch, detection, *bins], and where there are any points of them, and logits of every voxel
    [batch, class, *space]; and all that was found, of which nothing is learned: in training mode
    none."""

    proposals: Proposals
    steps: list[Regions]
    boxes: torch.Tensor
    masks: torch.Tensor
    points: list[Points]
    dense: list[torch.Tensor]
    found: list[QueryOutputs]


class MaskRCNN(nn.Module):
    """An encoder, a feature pyramid, and heads for proposals, boxes and masks."""

    def __init__(self, plan: BoxNetworkPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        self.plan = plan
        top, lowest, first = plan.stages[0], plan.stages[-1], plan.anchors[0].stage
        residual = plan.block == "residual"
        shape = ConvShape(
            in_channels, top.features, top.kernel_size, (1,) * len(top.stride), plan.bias
        )
        self.stem = conv_norm_act(shape)
        block = ResidualBlock if residual else conv_norm_act
        self.encoder = encoder_stages(block, plan.stages, top.features, plan.bias)
        for part in (self.stem, self.encoder):
            part.apply(initialize)
        width = plan.features
        self.pyramid = FeaturePyramid(plan.stages, first, width)
        self.proposals = ProposalHead(width, lowest.kernel_size, len(plan.anchors[0].sizes_vox))
        self.boxes = nn.ModuleList(
            BoxHead(width, plan.box_bins, plan.box_hidden, class_count) for _ in range(plan.steps)
        )
        self.masks = MaskHead(width, plan.mask_bins, plan.mask_layers)
        self.points = PointHead(width, plan.point_hidden) if plan.points else None
        kernels = tuple(stage.kernel_size for stage in plan.stages[first:])
        self.dense = DenseBranch(kernels, width, class_count) if plan.dense_classes else None

    def forward(
        self, image: torch.Tensor, all_resolutions: bool = False
    ) -> torch.Tensor | list[BoxOutputs]:
        if all_resolutions:
            return [self.outputs(image, learning=True)]
        return resized(class_scores(self.found(image)[0]), image.shape[2:])

    def found(self, image: torch.Tensor) -> list[QueryOutputs]:
        """All detections, then the background, or every class of the panoptic branch."""
        return self.outputs(image, learning=False).found

    def packed(self, image: torch.Tensor) -> torch.Tensor:
        """What was found, as `packed_queries` has it."""
        return packed_queries(self.found(image)[0])

    def outputs(self, image: torch.Tensor, learning: bool) -> BoxOutputs:
        """Masks are refined, if they are, unless points of them are to be learned from."""
        size = image.shape[2:]
        maps = self.pyramid(encode(self.encoder, self.stem(image)))
        pyramid = Pyramid(maps, self.plan.strides[self.plan.anchors[0].stage :])
        proposals = self._proposals(pyramid)
        steps, boxes = self._looked_at(pyramid, likeliest(proposals, self.plan, size), size)
        found = detected(steps, boxes, self.plan)
        surest = max(LEAST_LEARNED, ceil(LEARNED_SHARE * self.plan.detections))
        for_a_step = learning and self.training  # all that is found would double its work
        if for_a_step:
            found = found.first(surest)
        masks = self._masks(pyramid, found)
        seen = SeenRegions(maps[0], found.boxes, masks, size)
        learned, points = seen.first(surest), []
        if self.points is not None and learning:
            points = [self.points(learned, unsure_places(learned.masks, self.plan.points))]
        elif self.points is not None:
            for _ in range(self.plan.subdivisions):
                masks = refined(self.points, seen, self.plan.points)
                seen = seen._replace(masks=masks)
        dense = [] if self.dense is None else [self.dense(maps)]
        told = []
        if not for_a_step:
            told = [as_queries(found, masks, dense[0] if dense else None, self.plan, size)]
        return BoxOutputs(proposals, steps, learned.boxes, learned.masks, points, dense, told)

    def _proposals(self, pyramid: Pyramid) -> Proposals:
        count = len(self.plan.anchors)
        anchors = [
            anchors_at(level.sizes_vox, stride, x.shape[2:], x.device)
            for level, stride, x in zip(
                self.plan.anchors, pyramid.strides[:count], pyramid.maps[:count], strict=True
            )
        ]
        found: Proposals = self.proposals(pyramid.maps[:count], anchors)
        return found

    def _looked_at(
        self, pyramid: Pyramid, boxes: torch.Tensor, size: torch.Size
    ) -> tuple[list[Regions], torch.Tensor]:
        """The regions of each step, and the boxes that the last found."""
        steps = []
        for head, (move, growth) in zip(self.boxes, UNITS, strict=False):
            seen = roi_align(pyramid, boxes, self.plan.box_bins, self.plan.samples)
            logits, deltas = (x.view(*boxes.shape[:2], -1) for x in head(seen))
            moved, grown = deltas.chunk(2, dim=-1)
            better = decoded(torch.cat((moved / move, grown / growth), dim=-1), boxes)
            steps.append(Regions(boxes, logits, better))
            boxes = within_patch(better.detach(), size)
        return steps, boxes

    def _masks(self, pyramid: Pyramid, found: Detected) -> torch.Tensor:
        seen = roi_align(pyramid, found.boxes, self.plan.mask_bins, self.plan.samples)
        masks: torch.Tensor = self.masks(seen)
        return masks.view(*found.boxes.shape[:2], *masks.shape[1:])
