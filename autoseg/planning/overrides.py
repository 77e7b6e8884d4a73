"""Single values of a plan that a user sets, whatever the rules say."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from autoseg.errors import AutosegError, raise_if_any
from autoseg.planning.decisions import NetworkSettings
from autoseg.planning.model_plan import (
    BoxesPlan,
    CandidatesPlan,
    ConfigurationName,
    MaskQueriesPlan,
    ModelPlan,
)
from autoseg.planning.network_plan import (
    BUILT_IN_NETWORKS,
    BoxNetworkPlan,
    NetworkPlan,
    OneStagePlan,
    QueryNetworkPlan,
    SoloPlan,
    plan_record,
)
from autoseg.planning.plan import Configuration, Decision, Plan
from autoseg.planning.query_cells import cells_over
from autoseg.planning.run_plan import LossPlan
from autoseg.planning.search import Families

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list, such as [1,2,3]",
    "list": "a list, such as [1,2,3]",
    "model": "a table of values",
    "dict": "a table of values",
}
DEMANDS = {
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} values, not {actual_length}",
    "too_long": "must have at most {max_length} values, not {actual_length}",
    "missing": "is missing",
    "extra_forbidden": "is no key of it",
    "value_error": "{error}",
}
PARTS = ("grid", "model", "run", "inference")  # that a key may leave out
DERIVED = ("name", "model.inputs", "model.task")
KIND = "model.network.kind"
RULES_OF = {
    "fcn": ("fcn",),
    "deeplabv3plus": ("deeplab",),
    "segformer": ("segformer",),
    "mednext": ("mednext",),
    "mask_queries": ("mask_queries", "maskformer"),
    "mask_rcnn": ("mask_rcnn",),
    "solov2": ("solov2",),
    "yolact": ("yolact",),
}  # rule sets that plan a kind of network


def with_settings(plan: Plan, settings: Sequence[str], families: Families) -> Plan:
    """The plan with settings, such as `training.epochs=50` or `3d_fullres.batch_size=4`.

    Without a configuration's name a setting holds for all of them; the part of a configuration may
    be left out. Values are JSON, lists without their brackets, or else text.
    Raises AutosegError for keys that a plan does not have and values that do not suit them, all of
    them at once.
    """
    configurations: dict[ConfigurationName, Configuration] = dict(plan.configurations)
    problems: list[str] = []
    decisions: list[Decision] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        named, _, rest = key.partition(".")
        chosen = [name for name in configurations if name == named] or list(configurations)
        path = rest if chosen == [named] else key
        for name in chosen:
            try:
                if not equals:
                    raise AutosegError("expected KEY=VALUE.")
                changed = _changed(configurations[name], path, _value(text))
                _check(changed.configuration, families)
            except AutosegError as error:
                problems.append(f"--set {setting}: {error}")
                break
            configurations[name] = changed.configuration
            decisions.append(_decision(changed, _value(text)))
    raise_if_any(problems, "Settings that cannot be set")
    return plan.model_copy(
        update={
            "configurations": configurations,
            "decisions": (*plan.decisions, *decisions),
        }
    )


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a configuration, with its whole path."""

    path: str
    value: Any


def find_value(configuration: Configuration, key: str) -> Value | None:
    """The value of a key, which may leave out the part that it is in; None if there is none."""
    content = configuration.model_dump(mode="json")
    path = _whole_path(key, _paths(content))
    if path is None:
        return None
    inner, last = _holder(content, path)
    return Value(path, inner[last])


@dataclass(frozen=True, slots=True)
class _Changed:
    """A configuration with one value replaced, the value's whole path, and what it was."""

    configuration: Configuration
    path: str
    before: Any


def _changed(configuration: Configuration, key: str, value: Any) -> _Changed:
    content = configuration.model_dump(mode="json")
    known = _paths(content)
    path = _whole_path(key, known)
    if path is None:
        setting = key.rpartition(".")[2]
        of_rules = setting in NetworkSettings.model_fields
        if of_rules and not any(p.endswith(f".{setting}") for p in known):
            raise AutosegError(
                f"a plan has what follows from it: `{setting}` is of rules that decide `network`. "
                "Give a rule set of your own that changes it."
            )
        raise AutosegError(f"a plan has no such key. Did you mean {_nearest(key, known)}?")
    if any(path == derived or path.startswith(f"{derived}.") for derived in DERIVED):
        raise AutosegError("this follows from the dataset and cannot be set.")
    inner, last = _holder(content, path)
    if path == KIND:
        _check_kind(configuration.model.network, value)
    before, inner[last] = inner[last], value
    try:
        changed = Configuration.model_validate(content)
    except ValidationError as error:
        raise AutosegError(_in_words(error.errors(), path)) from None
    return _Changed(_following(changed, configuration.model), path, before)


def _following(changed: Configuration, before: ModelPlan) -> Configuration:
    """The same, where a network is made for a patch, with one for the patch that there is now."""
    model, patches = changed.model, (before.patch_size_vox, changed.model.patch_size_vox)
    network, task = model.network, model.task
    if len({len(patch) for patch in patches}) > 1 or patches[0] == patches[1]:
        return changed
    if isinstance(network, SoloPlan):
        network = network.of_patch(*patches)
    elif isinstance(network, QueryNetworkPlan) and network.cells:
        spacing_mm = changed.grid.target_spacing_mm
        extent_mm = [n * mm for n, mm in zip(model.patch_size_vox, spacing_mm, strict=True)]
        cells = cells_over(extent_mm, network.queries)
        network = network.model_copy(update={"cells": cells, "queries": prod(cells)})
        task = task.model_copy(update={"queries": prod(cells)})
    followed = model.model_copy(update={"network": network, "task": task})
    return changed.model_copy(update={"model": followed})


def _check_kind(network: NetworkPlan, kind: Any) -> None:
    """Refuse networks whose patch, strides and widths are searched in another way."""
    if kind in BUILT_IN_NETWORKS and plan_record(kind) is not plan_record(network.kind):
        raise AutosegError(
            f"{kind} has sizes, strides and a patch of its own, which rules plan: use a rule set "
            f"whose network is {kind} ({', '.join(RULES_OF.get(kind, ('cpu', 'default')))})."
        )


def _whole_path(key: str, known: Sequence[str]) -> str | None:
    return next((p for p in (key, *(f"{part}.{key}" for part in PARTS)) if p in known), None)


def _nearest(key: str, known: Sequence[str]) -> str:
    """The key that was most likely meant, as short as it may be."""
    short = {p.partition(".")[2] or p: p for p in reversed(known)}
    ends = [name for name in short if name.endswith(f".{key}")]
    return ends[0] if ends else get_close_matches(key, [*known, *short], n=1, cutoff=0)[0]


def _holder(content: dict[str, Any], path: str) -> tuple[Any, Any]:
    """The table or list that a value stands in, and its key there."""
    *parents, last = path.split(".")
    inner: Any = content
    for parent in parents:
        inner = inner[int(parent) if isinstance(inner, list) else parent]
    return inner, int(last) if isinstance(inner, list) else last


def _in_words(issues: Sequence[ErrorDetails], path: str) -> str:
    """What a value must be, all that is wrong with it in one sentence."""
    told = []
    for issue in issues:
        located = [str(part) for part in issue["loc"]]
        below = ".".join(located[len(path.split(".")) :])
        told.append(f"{f'{below} ' if below else ''}{_demand(issue)}")
    return f"{'; '.join(dict.fromkeys(told))}."


def _demand(issue: ErrorDetails) -> str:
    kind, context = issue["type"], issue.get("ctx", {})
    if kind in DEMANDS:
        return DEMANDS[kind].format(**context)
    whole = kind.partition("_")[0]
    if whole in TYPES and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {TYPES[whole]}, not {issue['input']!r}"
    return f"does not fit: {issue['msg'][:1].lower()}{issue['msg'][1:]}"


def _check(configuration: Configuration, families: Families) -> None:
    """Raise AutosegError for values that do not suit each other."""
    model, weights = configuration.model, configuration.run.loss.class_weights
    divisor = families(model.network.kind).patch_divisor(model.network)
    if model.spatial_dims != configuration.grid.spatial_dims or model.spatial_dims != len(divisor):
        raise AutosegError(f"a patch of {configuration.name} has {len(divisor)} sizes.")
    if any(size % d for size, d in zip(model.patch_size_vox, divisor, strict=True)):
        raise AutosegError(
            f"a patch of this network must be a multiple of {' x '.join(map(str, divisor))} voxels."
        )
    if model.patch_size_vox == divisor:
        raise AutosegError("a patch of this size leaves a single voxel at the lowest resolution.")
    for index, channel in enumerate(configuration.grid.normalization):
        if channel.masked and channel.kind != "zscore":
            raise AutosegError(
                f"zeros are left out by zscore alone. Set normalization.{index}.masked=false first."
            )
    if weights is not None and len(weights) != model.task.classes:
        raise AutosegError(f"{model.task.classes} weights are needed.")
    if isinstance(model.task, CandidatesPlan):
        _check_candidates(model.network, model.task)
    if isinstance(model.task, MaskQueriesPlan):
        _check_queries(model.network, model.task, configuration.run.loss)
    if isinstance(model.task, BoxesPlan):
        _check_boxes(model.network, model.task, configuration.run.loss)


def _check_candidates(network: NetworkPlan, task: CandidatesPlan) -> None:
    assert isinstance(network, OneStagePlan), network.kind
    grids = len(network.grids) if isinstance(network, SoloPlan) else 0
    if isinstance(network, SoloPlan) and len(network.waves) not in (0, len(network.mask_stride)):
        raise AutosegError("waves need a number for each axis, or none at all.")
    own = (network.candidates, network.mask_stride, grids)
    if own != (task.queries, task.mask_stride, len(task.sizes_mm)):
        raise AutosegError(
            "candidates, grids and the masks' resolution are the task's as well. Change "
            "`least_queries` or `mask_stride` in a rule."
        )


def _check_queries(network: NetworkPlan, task: MaskQueriesPlan, loss: LossPlan) -> None:
    if loss.kind != "matched_masks" or loss.matching is None:
        raise AutosegError("mask queries have a loss of their own, matched_masks.")
    assert isinstance(network, QueryNetworkPlan), network.kind
    if (network.queries, network.mask_stride) != (task.queries, task.mask_stride):
        raise AutosegError(
            "queries and the masks' resolution are the task's as well. Change `least_queries` or "
            "`mask_stride` in a rule."
        )


def _check_boxes(network: NetworkPlan, task: BoxesPlan, loss: LossPlan) -> None:
    if loss.kind != "found_boxes" or loss.boxes is None:
        raise AutosegError("boxes have a loss of their own, found_boxes.")
    assert isinstance(network, BoxNetworkPlan), network.kind
    if network.mask_stride != task.mask_stride:
        raise AutosegError(
            "the masks' resolution is the task's as well. Change `mask_stride` in a rule."
        )
    if network.steps > len(loss.boxes.overlaps):
        raise AutosegError(f"{network.steps} steps need as many loss.boxes.overlaps.")


def _paths(content: dict[str, Any], prefix: str = "") -> list[str]:
    paths = []
    for key, value in content.items():
        paths.append(prefix + key)
        inner = value
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            inner = {str(index): entry for index, entry in enumerate(value)}
        if isinstance(inner, dict):
            paths += _paths(inner, f"{prefix}{key}.")
    return paths


def _value(text: str) -> Any:
    """JSON, a list without its brackets, or else text."""
    for attempt in (text, *([f"[{text}]"] if "," in text else [])):
        with suppress(json.JSONDecodeError):
            return json.loads(attempt)
    return text


def _decision(changed: _Changed, value: Any) -> Decision:
    return Decision(
        name=changed.path,
        configuration=changed.configuration.name,
        value=value,
        rule_id="set.by_hand",
        because=f"set by hand; the rules had decided {changed.before}",
        facts={"before": changed.before},
        source="--set",
    )
