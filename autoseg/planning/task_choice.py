"""Which answer a network is trained for: classes, and what tells objects apart."""

from math import ceil

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.inspection.objects import BOX_VOX, SLICE_BOX_VOX
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import TASK
from autoseg.planning.model_plan import (
    CandidatesPlan,
    DistancePlan,
    FlowPlan,
    MaskQueriesPlan,
    SemanticPlan,
    TaskPlan,
)
from autoseg.planning.network_plan import (
    FIND_OBJECTS,
    NetworkPlan,
    OneStagePlan,
    QueryNetworkPlan,
    SoloPlan,
)
from autoseg.planning.search import ExpectedObjects
from autoseg.planning.size_ranges import Sizes, open_ranges

# How deep a voxel may lie for its depth to be told: measuring takes a pass for each voxel of it.
LEAST_REACH_VOX, REACH_VOX = 2.0, 24.0
# Steps of heat for each voxel of the diameter of an object: it has to come along bent ones.
STEPS_PER_VOX, LEAST_STEPS, MOST_STEPS = 3.0, 24, 256


def choose_task(
    fingerprint: Fingerprint,
    spacing_mm: tuple[float, ...],
    network: NetworkPlan,
    log: DecisionLog,
) -> TaskPlan:
    """Classes or regions; of things, where the rules say so, how deep voxels lie in them, or where
    their middles are; or masks that are queried for, which takes a network of queries. Raises
    AutosegError where the rules mix these, or regions would be queried for."""
    labels = fingerprint.labels
    kind = log.settings(TASK)
    if {kind, network.kind} & FIND_OBJECTS and kind != network.kind:
        raise AutosegError(
            f"The rules choose the task {kind} for a network {network.kind}: what finds objects as "
            "wholes is a task and a network that need each other. Change the rule of one of them."
        )
    if kind in FIND_OBJECTS and labels.regions:
        raise AutosegError(
            f"{kind} tells classes apart, and this dataset has regions, which may overlap. Plan it "
            "with other rules."
        )
    if isinstance(network, QueryNetworkPlan):
        return _mask_queries(labels, network)
    if isinstance(network, OneStagePlan):
        return _candidates(fingerprint, spacing_mm, network)
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
    radius_mm = max(objects.diameter_mm_p95 for objects in known) / 2
    reach_mm = min(max(radius_mm, LEAST_REACH_VOX * max(spacing_mm)), REACH_VOX * min(spacing_mm))
    return DistancePlan(
        classes=len(labels.values),
        spacing_mm=spacing_mm,
        reach_mm=round(reach_mm, 4),
    )


def border_class(labels: LabelScheme) -> int | None:
    """That which keeps numbered objects apart, and is the last."""
    return len(labels.values) - 1 if labels.instances else None


def _mask_queries(labels: LabelScheme, network: QueryNetworkPlan) -> MaskQueriesPlan:
    return MaskQueriesPlan(
        classes=len(labels.values),
        things=labels.thing_classes,
        border=border_class(labels),
        queries=network.queries,
        mask_stride=network.mask_stride,
    )


def _candidates(
    fingerprint: Fingerprint, spacing_mm: tuple[float, ...], network: OneStagePlan
) -> CandidatesPlan:
    labels, sizes = fingerprint.labels, object_sizes(fingerprint)
    solo = isinstance(network, SoloPlan)
    return CandidatesPlan(
        kind="solov2" if solo else "yolact",
        classes=len(labels.values),
        things=labels.thing_classes,
        border=border_class(labels),
        queries=network.candidates,
        mask_stride=network.mask_stride,
        spacing_mm=spacing_mm,
        sizes_mm=open_ranges(sizes, spacing_mm) if solo else (),
    )


def expected_objects(fingerprint: Fingerprint) -> ExpectedObjects:
    """How many objects of all classes of things scans and boxes hold."""
    known = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    single = all(min(case.shape_vox) == 1 for case in fingerprint.cases)
    return ExpectedObjects(
        in_scan=ceil(sum(objects.per_scan_p99_5 for objects in known)),
        in_box=sum(objects.in_patch_max for objects in known),
        box_edge_vox=(SLICE_BOX_VOX if single else BOX_VOX)[-1],
        sizes=object_sizes(fingerprint),
    )


def object_sizes(fingerprint: Fingerprint) -> Sizes:
    """Of the objects of all classes of things."""
    known = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    return Sizes(
        min((objects.diameter_mm_p05 for objects in known), default=0.0),
        max((objects.diameter_mm_p99_5 for objects in known), default=0.0),
    )
