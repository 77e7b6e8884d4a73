"""The rule engine: thresholds, choices and reasons live in TOML, algorithms in Python.

A rule set is a folder with `ruleset.toml` (title, optional `extends`) and any number of `*.toml`
files of `[[rule]]` tables. For each decision the first rule whose conditions all hold wins; a set's
own rules come before those of the set it extends, and a rule of equal id replaces its parent's.

A rule with `changes` in place of `value` replaces single values of what would be decided without
it: by the next rule in that order whose conditions hold, which may itself have `changes`. It
replaces no rule: a parent's of equal id stays below it, to be changed where it holds. In one set
nothing may follow a rule without conditions, with `changes` too, since it could never win.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from autoseg.errors import AutosegError, raise_if_any
from autoseg.planning.decisions import DECISIONS
from autoseg.planning.facts import FACT_NAMES, FACT_TYPES, Facts
from autoseg.planning.plan import Decision
from autoseg.planning.rule import COMPARISONS, Rule, decision_of, down_to_a_value, value_of
from autoseg.records import Record


class RuleSetHeader(Record):
    """`ruleset.toml`."""

    title: str
    extends: str | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in the order in which they are tried, nearest layer first."""

    name: str
    title: str
    rules: tuple[Rule, ...]

    def decide(self, name: str, facts: Facts) -> tuple[Any, Decision]:
        """The settings of the first rule that holds, validated, and the record of the decision.

        The decision's value is the settings; a search that computes something else from them
        replaces it.
        """
        known = facts.known()
        chain = down_to_a_value(
            rule for rule in self.rules if rule.decides == name and rule.holds(known)
        )
        return _settings(name, value_of(chain)), decision_of(chain, facts)

    def default(self, name: str) -> Any:
        """The settings of the rule that holds where no other does."""
        unconditional = (rule for rule in self.rules if rule.decides == name and not rule.when)
        return _settings(name, value_of(down_to_a_value(unconditional)))


def rules_dir() -> Path:
    """The folder of built-in rule sets: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "planner_rules"
    return packaged if packaged.is_dir() else package.parent / "planner_rules"


def load_rule_set(name_or_folder: str) -> RuleSet:
    """Load a built-in rule set by name, or a user's own by its folder, with all it extends.

    Raises AutosegError that lists every mistake with file, rule id and the nearest valid name.
    """
    folder = _find_folder(name_or_folder, relative_to=None)
    layers: list[tuple[RuleSetHeader, list[Rule]]] = []
    visited: list[Path] = []
    current: Path | None = folder
    while current is not None:
        if current in visited:
            raise AutosegError(f"{current}: this rule set extends itself. Change its `extends`.")
        visited.append(current)
        header, own = _load_layer(current)
        layers.append((header, own))
        current = _find_folder(header.extends, relative_to=current) if header.extends else None
    rules = _in_order([rules for _, rules in layers])
    _check_complete(folder, rules)
    _check_changed_values(folder, rules)
    return RuleSet(folder.name, layers[0][0].title, rules)


def _in_order(layers: list[list[Rule]]) -> tuple[Rule, ...]:
    """The rules of all layers, nearest first, less those that a nearer one's value replaces."""
    in_order: list[Rule] = []
    replaced: set[str] = set()
    for layer in layers:
        in_order += [rule for rule in layer if rule.id not in replaced]
        replaced |= {rule.id for rule in layer if rule.changes is None}
    return tuple(in_order)


def _find_folder(name_or_folder: str, relative_to: Path | None) -> Path:
    built_in = rules_dir() / name_or_folder
    own = (relative_to.parent if relative_to else Path()) / name_or_folder
    for folder in (built_in, own):
        if (folder / "ruleset.toml").is_file():
            return folder.resolve()
    names = sorted(path.parent.name for path in rules_dir().glob("*/ruleset.toml"))
    alike = get_close_matches(name_or_folder, names, 1)
    meant = f" Did you mean {alike[0]}?" if alike else ""
    raise AutosegError(
        f"{name_or_folder}: no such rule set.{meant} Built-in sets: {', '.join(names)}; "
        "or give a folder that holds a ruleset.toml."
    )


def _load_layer(folder: Path) -> tuple[RuleSetHeader, list[Rule]]:
    problems: list[str] = []
    header = RuleSetHeader(title=folder.name)
    rules: list[Rule] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path}: not valid TOML: {error}.")
            continue
        if path.name == "ruleset.toml":
            try:
                header = RuleSetHeader.model_validate(content)
            except ValidationError as error:
                problems += _explain(error.errors(), str(path), RuleSetHeader)
            continue
        problems += [
            f"{path}: unknown key {key!r}; a rules file holds only [[rule]] tables."
            for key in content.keys() - {"rule"}
        ]
        for entry in content.get("rule", []):
            rules += _load_rule(entry, path, problems)
    _check_reachable(rules, folder, problems)
    raise_if_any(problems, f"{folder}: the rule set has mistakes")
    return header, rules


def _load_rule(entry: dict[str, Any], path: Path, problems: list[str]) -> list[Rule]:
    where = f"{path}: rule {entry.get('id', 'without an id')}"
    try:
        rule = Rule.model_validate(entry)
    except ValidationError as error:
        conditions = entry.get("when")
        problems += _explain(error.errors(), where, Rule)
        problems += _check_facts(conditions if isinstance(conditions, dict) else {}, where)
        return []
    found = [
        *_check_decision(rule, where),
        *_check_facts([*rule.when, *rule.facts_in_reason()], where),
    ]
    for fact, condition in rule.when.items():
        if FACT_TYPES.get(fact) in (str, bool) and condition.compares_numbers():
            found.append(f"{where}: {fact} is no number; compare it with `is` or `one_of`.")
    problems += found
    return [] if found else [rule]


def _check_facts(names: Iterable[str], where: str) -> list[str]:
    return [
        f"{where}: unknown fact {name!r}.{_nearest(name, FACT_NAMES)}"
        for name in names
        if name not in FACT_NAMES
    ]


def _check_decision(rule: Rule, where: str) -> list[str]:
    if rule.value is None and rule.changes is None:
        return [f"{where}: it has neither `value` nor `changes`. Give one of them."]
    if rule.value is not None and rule.changes is not None:
        return [f"{where}: it has both `value` and `changes`. Remove one of them."]
    if rule.decides not in DECISIONS:
        return [
            f"{where}: unknown decision {rule.decides!r}.{_nearest(rule.decides, list(DECISIONS))}"
        ]
    if rule.for_each != DECISIONS[rule.decides].for_each:
        return [
            f"{where}: {rule.decides} is decided with for_each = "
            f"{DECISIONS[rule.decides].for_each!r}, not {rule.for_each!r}."
        ]
    if rule.changes is None:
        return _problems_of_value(rule.decides, rule.value, f"{where}: value")
    return _problems_of_changes(rule.decides, rule.changes, f"{where}: changes")


def _problems_of_value(decision: str, value: Any, where: str) -> list[str]:
    try:
        _settings(decision, value)
    except ValidationError as error:
        return _explain(error.errors(), where, _record(decision))
    return []


def _problems_of_changes(decision: str, changes: dict[str, Any], where: str) -> list[str]:
    """What is wrong with single values; those that are absent come from a rule below."""
    record = _record(decision)
    if record is None:
        return [f"{where}: {decision} is one value, not a table of several. Give it as `value`."]
    try:
        record.model_validate(changes)
    except ValidationError as error:
        given = [issue for issue in error.errors() if issue["loc"] and issue["loc"][0] in changes]
        return _explain(given, where, record)
    return []


def _check_reachable(rules: list[Rule], folder: Path, problems: list[str]) -> None:
    settled: dict[str, str] = {}
    ids: set[str] = set()
    for rule in rules:
        if rule.id in ids:
            problems.append(f"{folder}: rule id {rule.id!r} is used twice. Rename one.")
        ids.add(rule.id)
        if rule.decides in settled:
            problems.append(
                f"{folder}: rule {rule.id} can never be reached, since rule "
                f"{settled[rule.decides]} before it has no conditions. Reorder them."
            )
        if not rule.when:
            settled[rule.decides] = rule.id


def _check_complete(folder: Path, rules: Sequence[Rule]) -> None:
    settled = {rule.decides for rule in rules if not rule.when and rule.changes is None}
    problems = []
    for name in [name for name in DECISIONS if name not in settled]:
        changing = [rule.id for rule in rules if rule.decides == name and rule.changes is not None]
        but = f", which {', '.join(changing)} would change" if changing else ""
        problems.append(f"{folder}: no rule without conditions decides {name}{but}. Add one.")
    raise_if_any(problems, f"{folder}: the rule set is incomplete")


def _check_changed_values(folder: Path, rules: Sequence[Rule]) -> None:
    """Each rule's changes must fit the value of every rule that they may change."""
    problems: list[str] = []
    for name in DECISIONS:
        tried = [rule for rule in rules if rule.decides == name]
        last = next(i for i, rule in enumerate(tried) if not rule.when and rule.changes is None)
        for index, rule in enumerate(tried[:last]):
            for below, value in _changed_values(rule, tried[index + 1 : last + 1]):
                where = f"{folder}: rule {rule.id}: changes of what rule {below} gives"
                problems += _problems_of_value(name, value, where)
    raise_if_any(problems, f"{folder}: the rule set has mistakes")


def _changed_values(rule: Rule, below: Sequence[Rule]) -> Iterator[tuple[str, Any]]:
    """The value with each rule below that can hold too, where nothing else need hold."""
    for other in below if rule.changes is not None else ():
        hold = rule.when | other.when
        chain = down_to_a_value(r for r in below if r.when.items() <= hold.items())
        if other in chain and not _exclude(rule, other):
            yield other.id, value_of([rule, *chain])


def _exclude(one: Rule, other: Rule) -> bool:
    """Whether some fact would have to be two things at once."""
    shared = one.when.keys() & other.when.keys()
    wanted = [(one.when[fact].is_, other.when[fact].is_) for fact in shared]
    return any(None not in pair and pair[0] != pair[1] for pair in wanted)


def _settings(decision: str, value: Any) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(DECISIONS[decision].settings)
    return adapter.validate_python(value)


def _record(decision: str) -> type[Record] | None:
    """The record of a decision's settings; None where they are a single value."""
    settings = DECISIONS[decision].settings
    return settings if isinstance(settings, type) and issubclass(settings, Record) else None


def _explain(issues: Sequence[ErrorDetails], where: str, kind: type[Record] | None) -> list[str]:
    problems = []
    for issue in issues:
        location = ".".join(str(part) for part in issue["loc"])
        hint = _hint(issue, kind) if kind is not None else ""
        problems.append(f"{where}: {location or 'value'}: {issue['msg']}.{hint}")
    return problems


def _hint(issue: ErrorDetails, kind: type[Record]) -> str:
    """What would be valid instead, where that is a name or a table."""
    depth = len(issue["loc"])
    if issue["type"] == "extra_forbidden" and (depth == 1 or kind is Rule):
        valid = list(kind.model_fields) if depth == 1 else list(COMPARISONS)
        return _nearest(str(issue["loc"][-1]), valid)
    if issue["type"] == "model_type" and depth == 0:
        keys = ", ".join(kind.model_fields)
        return f" It must be a table {{ … }} with the keys of {kind.__name__}: {keys}."
    return " It must be a table { … }." if issue["type"] in ("dict_type", "model_type") else ""


def _nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    close = get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Valid: {', '.join(valid)}."
