"""Which answer a network is trained for: classes, and what tells objects apart."""

from math import ceil
from typing import Any

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.inspection.objects import BOX_VOX, SLICE_BOX_VOX
from autoseg.planning.choices import MedianGrid
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import TASK
from autoseg.planning.facts import object_sizes_mm
from autoseg.planning.model_plan import (
    BoxesPlan,
    CandidatesPlan,
    DistancePlan,
    FlowPlan,
    MaskQueriesPlan,
    ObjectsPlan,
    SemanticPlan,
    TaskPlan,
)
from autoseg.planning.network_plan import (
    BoxNetworkPlan,
    NetworkPlan,
    OneStagePlan,
    QueryNetworkPlan,
    SoloPlan,
)
from autoseg.planning.search import ExpectedObjects, PatchSearch
from autoseg.planning.size_ranges import Sizes, open_ranges

# Networks of whole objects, and the task that each needs, which needs it too.
OBJECT_TASKS = {
    "mask_queries": "mask_queries", "mask_rcnn": "boxes", "solov2": "solov2", "yolact": "yolact",
}  # fmt: skip
# How deep a voxel may lie for its depth to be told: measuring takes a pass for each voxel of it.
LEAST_REACH_VOX, REACH_VOX = 2.0, 24.0
# Steps of heat for each voxel of the diameter of an object: it has to come along bent ones.
STEPS_PER_VOX, LEAST_STEPS, MOST_STEPS = 3.0, 24, 256


def choose_task(
    fingerprint: Fingerprint, search: PatchSearch, network: NetworkPlan, log: DecisionLog
) -> TaskPlan:
    """Classes or regions; of things, where the rules say so, how deep voxels lie in them, or where
    their middles are; or whole objects, as masks that are queried for, boxes or candidates, which
    take a network of their own. Raises AutosegError where the rules mix these, there are regions,
    which overlap, or there is nothing to part."""
    labels, spacing_mm = fingerprint.labels, search.spacing_mm
    kind = log.settings(TASK)
    _check(kind, network, labels)
    if isinstance(network, QueryNetworkPlan | BoxNetworkPlan | OneStagePlan):
        return _objects_plan(labels, search, network)
    known = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    if kind == "semantic" or not known:
        return SemanticPlan(classes=len(labels.values), regions=labels.region_classes())
    if kind == "flow":
        diameter_vox = max(objects.diameter_mm_p99_5 for objects in known) / min(spacing_mm)
        steps = min(max(ceil(STEPS_PER_VOX * diameter_vox), LEAST_STEPS), MOST_STEPS)
        return FlowPlan(
            classes=len(labels.values),
            border=border_class(labels),
            spacing_mm=spacing_mm,
            steps=steps,
        )
    small_mm = min(objects.diameter_mm_p05 for objects in known)
    reach_mm = min(max(small_mm, LEAST_REACH_VOX * max(spacing_mm)), REACH_VOX * min(spacing_mm))
    return DistancePlan(
        classes=len(labels.values),
        spacing_mm=spacing_mm,
        reach_mm=round(reach_mm, 4),
    )


def _check(kind: str, network: NetworkPlan, labels: LabelScheme) -> None:
    whole = kind in OBJECT_TASKS.values()
    if OBJECT_TASKS.get(network.kind, kind) != kind or (whole and network.kind not in OBJECT_TASKS):
        raise AutosegError(
            f"The rules choose the task {kind} for a network {network.kind}: what finds objects as "
            "wholes is a task and a network that need each other. Change the rule of one of them."
        )
    if whole and labels.regions:
        raise AutosegError(
            f"{kind} tells classes apart, and this dataset has regions, which may overlap. Plan it "
            "with other rules."
        )
    if kind in ("distance", "flow", "solov2", "yolact") and not labels.things:
        raise AutosegError(
            f"{kind} tells objects apart, and this dataset has no classes whose objects count "
            'one by one. Name them in dataset.json, as "things": ["nucleus"], or plan with other '
            "rules."
        )


def border_class(labels: LabelScheme) -> int | None:
    """That which keeps numbered objects apart, and is the last."""
    return len(labels.values) - 1 if labels.instances else None


def _objects_plan(
    labels: LabelScheme,
    search: PatchSearch,
    network: QueryNetworkPlan | BoxNetworkPlan | OneStagePlan,
) -> ObjectsPlan:
    known: dict[str, Any] = {
        "classes": len(labels.values),
        "things": labels.thing_classes,
        "border": border_class(labels),
        "mask_stride": network.mask_stride,
    }
    if isinstance(network, BoxNetworkPlan):
        return BoxesPlan(objects=network.detections, **known)
    if isinstance(network, QueryNetworkPlan):
        return MaskQueriesPlan(queries=network.queries, **known)
    known |= {"queries": network.candidates, "spacing_mm": search.spacing_mm}
    if isinstance(network, SoloPlan):
        sizes = Sizes.of(search.objects.sizes_vox(search.spacing_mm), search.spacing_mm)
        ranges = open_ranges(sizes, search.spacing_mm)
        return CandidatesPlan(kind="solov2", sizes_mm=ranges, **known)
    return CandidatesPlan(kind="yolact", **known)


def expected_objects(fingerprint: Fingerprint, grid: MedianGrid) -> ExpectedObjects:
    """How many objects of all classes of things scans and boxes hold, and how large they are."""
    known = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    sizes_mm, labels = object_sizes_mm(fingerprint, grid.orientation), fingerprint.labels
    single = all(min(case.shape_vox) == 1 for case in fingerprint.cases)
    edge = (SLICE_BOX_VOX if single else BOX_VOX)[-1]
    return ExpectedObjects(
        in_scan=ceil(sum(objects.per_scan_p99_5 for objects in known)),
        in_box=sum(objects.in_patch_max for objects in known),
        box_mm=tuple(
            mm * min(edge, size) for mm, size in zip(grid.target_mm, grid.median_vox, strict=True)
        ),
        sizes_mm=tuple(map(tuple, sizes_mm[:, list(grid.axis_order)].tolist())),
        besides=tuple(n for n in range(1, len(labels.values)) if n not in labels.thing_classes),
    )
