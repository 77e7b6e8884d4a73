"""Single values of a plan that a user sets, whatever the rules say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from autoseg.errors import AutosegError, raise_if_any
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import Configuration, Decision, Plan
from autoseg.planning.search import Families
from autoseg.records import parse_record

PARTS = ("grid", "model", "run", "inference")  # that a key may leave out
DERIVED = ("name", "model.inputs", "model.task")


def with_settings(plan: Plan, settings: Sequence[str], families: Families) -> Plan:
    """The plan with settings, such as `training.epochs=50` or `3d_fullres.batch_size=4`.

    Without a configuration's name a setting holds for all of them; the part of a configuration may
    be left out. Values are JSON, or else text.
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
class _Changed:
    """A configuration with one value replaced, the value's whole path, and what it was."""

    configuration: Configuration
    path: str
    before: Any


def _changed(configuration: Configuration, key: str, value: Any) -> _Changed:
    content = configuration.model_dump(mode="json")
    known = _paths(content)
    path = next((p for p in (key, *(f"{part}.{key}" for part in PARTS)) if p in known), None)
    if path is None:
        short = {p.partition(".")[2] or p: p for p in reversed(known)}
        near = get_close_matches(key, [*known, *short], n=1, cutoff=0)
        raise AutosegError(f"a plan has no {key}. Did you mean {near[0]}?")
    if any(path == derived or path.startswith(f"{derived}.") for derived in DERIVED):
        raise AutosegError(f"{path} follows from the dataset and cannot be set.")
    *parents, last = path.split(".")
    inner: Any = content
    for parent in parents:
        inner = inner[parent]
    before, inner[last] = inner[last], value
    return _Changed(parse_record(Configuration, content, path), path, before)


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
    if weights is not None and len(weights) != model.task.classes:
        raise AutosegError(f"{model.task.classes} weights are needed.")


def _paths(content: dict[str, Any], prefix: str = "") -> list[str]:
    paths = []
    for key, value in content.items():
        paths.append(prefix + key)
        if isinstance(value, dict):
            paths += _paths(value, f"{prefix}{key}.")
    return paths


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
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
