"""Asking the rules, with a record of every decision for people to read."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from autoseg.planning.decisions import DecisionKind
from autoseg.planning.facts import Facts
from autoseg.planning.plan import Decision
from autoseg.planning.rules import RuleSet

S = TypeVar("S")


@dataclass(slots=True)
class DecisionLog:
    """What the rules were asked for one configuration, and what came of it."""

    rules: RuleSet
    facts: Facts
    decisions: list[Decision] = field(default_factory=list)

    def settings(self, kind: DecisionKind[S], **found: Any) -> S:
        """The settings that the rules give, knowing also what has been found so far."""
        settings: S
        settings, decision = self.rules.decide(kind.name, self.facts.with_known(**found))
        self.decisions.append(decision)
        return settings

    def conclude(self, kind: DecisionKind[Any], value: Any, **facts: Any) -> None:
        """Record what came out of a decision's settings."""
        index = self._last(kind)
        decision = self.decisions[index]
        update = {"value": value, "facts": decision.facts | facts}
        self.decisions[index] = decision.model_copy(update=update)

    def conclude_also(
        self, name: str, value: Any, of: DecisionKind[Any], because: str | None = None
    ) -> None:
        """Record a further outcome of a decision, under a name of its own, and a reason if there is
        another."""
        decision = self.decisions[self._last(of)]
        update = {"name": name, "value": value, "because": because or decision.because}
        self.decisions.append(decision.model_copy(update=update))

    def add_reason(self, kind: DecisionKind[Any], reason: str) -> None:
        """Append what became of a decision to its reason."""
        index = self._last(kind)
        because = f"{self.decisions[index].because}; {reason}"
        self.decisions[index] = self.decisions[index].model_copy(update={"because": because})

    def _last(self, kind: DecisionKind[Any]) -> int:
        return max(i for i, d in enumerate(self.decisions) if d.name == kind.name)
