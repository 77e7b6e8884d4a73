"""One rule, and what a chain of rules decides in which each changes the value of the next."""

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from autoseg.planning.facts import FACT_NAMES, Facts, FactValue
from autoseg.planning.plan import Decision
from autoseg.records import Record

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda fact, bound: bool(fact == bound),
    "one_of": lambda fact, bound: fact in bound,
    "at_least": lambda fact, bound: bool(fact >= bound),
    "at_most": lambda fact, bound: bool(fact <= bound),
    "more_than": lambda fact, bound: bool(fact > bound),
    "less_than": lambda fact, bound: bool(fact < bound),
}


class Condition(Record):
    """What one fact must satisfy; several comparisons must all hold."""

    model_config = ConfigDict(populate_by_name=True)

    is_: FactValue | None = Field(None, alias="is")
    one_of: tuple[FactValue, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    more_than: float | None = None
    less_than: float | None = None

    def compares_numbers(self) -> bool:
        """Whether it asks for more or less of something."""
        return any(
            bound is not None
            for bound in (self.at_least, self.at_most, self.more_than, self.less_than)
        )

    def holds(self, fact: FactValue | None) -> bool:
        """Whether a fact satisfies every comparison; an unknown fact satisfies none."""
        if fact is None:
            return False
        bounds = self.model_dump(by_alias=True, exclude_none=True)
        return all(COMPARISONS[name](fact, bound) for name, bound in bounds.items())


class Rule(Record):
    """One choice: what it decides, when it holds, and the reason that a person reads.

    It has either a `value`, or `changes` to the value that would stand without it.
    """

    id: str
    decides: str
    when: dict[str, Condition] = Field(default_factory=dict)
    for_each: Literal["channel"] | None = None
    value: Any = None
    changes: dict[str, Any] | None = None
    because: str
    source: str

    def holds(self, known: Mapping[str, FactValue]) -> bool:
        """Whether all its conditions do."""
        return all(condition.holds(known.get(fact)) for fact, condition in self.when.items())

    def facts_in_reason(self) -> list[str]:
        """The names of facts that its reason shows."""
        return [name for _, name, _, _ in string.Formatter().parse(self.because) if name]


class Reason(string.Formatter):
    """Fills facts into a reason; those not known yet are called so."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "an unknown part" if value is None else str(format(value, format_spec))


def down_to_a_value(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Of rules in the order in which they are tried: the first, and those whose values it changes.

    The last of them is the first that gives a whole value.
    """
    chain: list[Rule] = []
    for rule in rules:
        chain.append(rule)
        if rule.changes is None:
            return tuple(chain)
    raise AssertionError(f"no value below {[rule.id for rule in chain]}")


def value_of(chain: Sequence[Rule]) -> Any:
    """The value of the last rule with the changes of those before it, the first one's over all."""
    first, *below = chain
    return first.value if first.changes is None else {**value_of(below), **first.changes}


def decision_of(chain: Sequence[Rule], facts: Facts) -> Decision:
    """The record of what the first rule decided, and of the facts that decided which rules hold."""
    first, known = chain[0], facts.known()
    looked_at = {fact for rule in chain for fact in rule.when} | set(first.facts_in_reason())
    return Decision(
        name=first.decides,
        configuration=facts.configuration,
        value=value_of(chain),
        rule_id=first.id,
        because=Reason().format(first.because, **{fact: known.get(fact) for fact in FACT_NAMES}),
        facts={fact: known[fact] for fact in known if fact in looked_at},
        source=first.source,
    )
