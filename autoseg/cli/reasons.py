"""Why a plan is what it is: decisions by their names, and by the keys that `--set` knows."""

from difflib import get_close_matches
from typing import Any

from autoseg.errors import AutosegError
from autoseg.planning.decisions import DECISIONS
from autoseg.planning.grid_plan import ChannelNormalization, NormalizationKind
from autoseg.planning.overrides import find_value
from autoseg.planning.plan import Decision, Plan

NORMALISED: dict[NormalizationKind, str] = {
    "ct": "CT, by the foreground of all scans",
    "zscore": "a channel without a fixed scale, by each scan's mean and deviation",
    "rescale_0_1": "a channel to rescale to 0-1",
    "rgb_0_1": "8-bit colour",
    "none": "it is",
}


def taken_for(channel: ChannelNormalization) -> str:
    """What a channel was taken for, in a few words."""
    return f"{channel.channel} as {NORMALISED[channel.kind]}"


def find_decisions(plan: Plan, field: str | None) -> list[Decision]:
    """All decisions, those of one name, or those that a key such as `training.epochs` belongs to.

    What was set by hand comes first; else the decisions of a key have its value alone. Raises
    AutosegError with the nearest name if there is none.
    """
    if field is None:
        return list(plan.decisions)
    found = [decision for decision in plan.decisions if decision.name == field]
    found = found or _decisions_of_key(plan, field)
    if not found:
        names = list(dict.fromkeys(decision.name for decision in plan.decisions))
        close = get_close_matches(field, names)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Decisions: {', '.join(names)}."
        raise AutosegError(f"{field}: the plan has no such decision, nor such a key. {hint}")
    return found


def _decisions_of_key(plan: Plan, key: str) -> list[Decision]:
    """What was decided on a key of each configuration that has it."""
    found: list[Decision] = []
    for configuration in plan.configurations.values():
        named, _, rest = key.partition(".")
        if named in plan.configurations and named != configuration.name:
            continue
        value = find_value(configuration, rest if named == configuration.name else key)
        if value is None:
            continue
        # The nearest name of a decision: loss.batch_dice belongs to batch_dice, loss.kind to loss.
        name = next((part for part in reversed(value.path.split(".")) if part in DECISIONS), None)
        own = [d for d in plan.decisions if d.configuration in (None, configuration.name)]
        by_hand = [decision for decision in own if decision.name == value.path]
        change = {} if by_hand else {"name": value.path, "value": value.value}
        by_rule = [d.model_copy(update=change) for d in own if d.name == name]
        found += [*by_hand, *by_rule]
    return found


def explain_screen(decisions: list[Decision], in_full: bool) -> str:
    """One line for each decision, or all that is known of a few."""
    blocks = []
    for decision in decisions:
        of = [decision.configuration, decision.facts.get("channel_name")]
        where = f" ({', '.join(str(part) for part in of if part)})" if any(of) else ""
        head = f"{decision.name}{where} = {_short(decision.value, None if in_full else 60)}"
        if not in_full:
            blocks.append(f"{head}\n    {decision.because}")
            continue
        facts = "".join(f"\n    {name} = {_short(v)}" for name, v in decision.facts.items())
        blocks.append(
            f"{head}\n  because {decision.because}\n  rule {decision.rule_id}\n  source "
            f"{decision.source}" + (f"\n  facts{facts}" if facts else "")
        )
    return "\n".join(blocks)


def _short(value: Any, limit: int | None = None) -> str:
    text = str(value)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
