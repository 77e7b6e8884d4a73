"""Single values of a plan that a user sets, whatever the rules say."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from autoseg.errors import AutosegError, raise_if_any
from autoseg.planning.plan import Configuration, ConfigurationName, Decision, Plan
from autoseg.records import parse_record

DERIVED = ("name", "spatial_dims", "previous_stage", "loss.regions")


def with_settings(plan: Plan, settings: Sequence[str]) -> Plan:
    """The plan with settings, such as `training.epochs=50` or `3d_fullres.batch_size=4`.

    Without a configuration's name a setting holds for all of them. Values are JSON, or else text.
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
        path = rest if len(chosen) == 1 and chosen[0] == named else key
        for name in chosen:
            try:
                if not equals:
                    raise AutosegError("expected KEY=VALUE.")
                configurations[name], before = _with_value(configurations[name], path, _value(text))
            except AutosegError as error:
                problems.append(f"--set {setting}: {error}")
                break
            weights = configurations[name].loss.class_weights
            if weights is not None and len(weights) != len(plan.labels.values):
                problems.append(f"--set {setting}: {len(plan.labels.values)} weights are needed.")
            decisions.append(_decision(path, name, _value(text), before))
    raise_if_any(problems, "Settings that cannot be set")
    return plan.model_copy(
        update={
            "configurations": configurations,
            "decisions": (*plan.decisions, *decisions),
        }
    )


def _with_value(configuration: Configuration, path: str, value: Any) -> tuple[Configuration, Any]:
    """A configuration with one value replaced, and what it was."""
    if path in DERIVED:
        raise AutosegError(f"{path} follows from the dataset and cannot be set.")
    content = configuration.model_dump(mode="json")
    inner: Any = content
    *parents, last = path.split(".")
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner:
        known = _paths(content)
        near = get_close_matches(path, known, n=1, cutoff=0)
        raise AutosegError(f"a plan has no {path}. Did you mean {near[0]}?")
    before, inner[last] = inner[last], value
    changed = parse_record(Configuration, content, path)
    divisor = changed.network.patch_divisor
    if len(changed.patch_size_vox) != len(divisor):
        raise AutosegError(f"a patch of {configuration.name} has {len(divisor)} sizes.")
    if any(size % d for size, d in zip(changed.patch_size_vox, divisor, strict=True)):
        raise AutosegError(
            f"a patch of this network must be a multiple of {' x '.join(map(str, divisor))} voxels."
        )
    return changed, before


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


def _decision(path: str, name: ConfigurationName, value: Any, before: Any) -> Decision:
    return Decision(
        name=path,
        configuration=name,
        value=value,
        rule_id="set.by_hand",
        because=f"set by hand; the rules had decided {before}",
        facts={"before": before},
        source="--set",
    )
