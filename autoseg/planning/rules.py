"""The rule engine: thresholds, choices and reasons live in TOML, algorithms in Python.

A rule set is a folder with `ruleset.toml` (title, optional `extends`) and any number of `*.toml`
files of `[[rule]]` tables. For each decision the first rule whose conditions all hold wins; a set's
own rules come before those of the set it extends, and a rule of equal id replaces its parent's.
"""

import string
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from autoseg.errors import AutosegError, raise_if_any
from autoseg.planning.decisions import DECISIONS
from autoseg.planning.facts import FACT_NAMES, FACT_TYPES, Facts, FactValue
from autoseg.planning.plan import ConfigurationName, Decision
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
    """One choice: what it decides, when it holds, the value, and the reason a person reads."""

    id: str
    decides: str
    when: dict[str, Condition] = Field(default_factory=dict)
    for_each: Literal["channel"] | None = None
    value: Any
    because: str
    source: str


SETTINGS_KEYS = {
    kind.settings.__name__: tuple(kind.settings.model_fields)
    for kind in DECISIONS.values()
    if isinstance(kind.settings, type) and issubclass(kind.settings, Record)
}


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
        for rule in self.rules:
            if rule.decides == name and all(
                condition.holds(known.get(fact)) for fact, condition in rule.when.items()
            ):
                return _validated(rule), _decision(name, rule, facts)
        raise AssertionError(f"rule set {self.name} has no default for {name}")

    def default(self, name: str) -> Any:
        """The settings of the rule that holds where no other does."""
        return next(
            _validated(rule) for rule in self.rules if rule.decides == name and not rule.when
        )


class Reason(string.Formatter):
    """Fills facts into a reason; those not known yet are called so."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "an unknown part" if value is None else str(format(value, format_spec))


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
        header, rules = _load_layer(current)
        layers.append((header, rules))
        current = _find_folder(header.extends, relative_to=current) if header.extends else None
    merged: dict[str, Rule] = {}
    for _, rules in layers:
        for rule in rules:
            merged.setdefault(rule.id, rule)
    _check_defaults(folder, list(merged.values()))
    return RuleSet(folder.name, layers[0][0].title, tuple(merged.values()))


def _find_folder(name_or_folder: str, relative_to: Path | None) -> Path:
    built_in = rules_dir() / name_or_folder
    own = (relative_to.parent if relative_to else Path()) / name_or_folder
    for folder in (built_in, own):
        if (folder / "ruleset.toml").is_file():
            return folder.resolve()
    names = sorted(path.parent.name for path in rules_dir().glob("*/ruleset.toml"))
    raise AutosegError(
        f"{name_or_folder}: no such rule set. Built-in sets: {', '.join(names)}; or give a folder "
        "that holds a ruleset.toml."
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
                problems += _explain(error, str(path), RuleSetHeader)
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
        problems += _explain(error, where, Rule)
        conditions = entry.get("when")
        for fact in conditions if isinstance(conditions, dict) else ():
            if fact not in FACT_NAMES:
                problems.append(f"{where}: unknown fact {fact!r}.{_nearest(fact, FACT_NAMES)}")
        return []
    before = len(problems)
    if rule.decides not in DECISIONS:
        problems.append(
            f"{where}: unknown decision {rule.decides!r}.{_nearest(rule.decides, list(DECISIONS))}"
        )
    elif rule.for_each != DECISIONS[rule.decides].for_each:
        problems.append(
            f"{where}: {rule.decides} is decided with for_each = "
            f"{DECISIONS[rule.decides].for_each!r}, not {rule.for_each!r}."
        )
    else:
        try:
            _validated(rule)
        except ValidationError as error:
            problems += _explain(error, f"{where}: value", None)
    placeholders = [name for _, name, _, _ in string.Formatter().parse(rule.because) if name]
    for fact in [*rule.when, *placeholders]:
        if fact not in FACT_NAMES:
            problems.append(f"{where}: unknown fact {fact!r}.{_nearest(fact, FACT_NAMES)}")
    for fact, condition in rule.when.items():
        if FACT_TYPES.get(fact) in (str, bool) and condition.compares_numbers():
            problems.append(f"{where}: {fact} is no number; compare it with `is` or `one_of`.")
    return [rule] if len(problems) == before else []


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


def _check_defaults(folder: Path, rules: list[Rule]) -> None:
    settled = {rule.decides for rule in rules if not rule.when}
    missing = [name for name in DECISIONS if name not in settled]
    raise_if_any(
        [f"{folder}: no rule without conditions decides {name}. Add one." for name in missing],
        f"{folder}: the rule set is incomplete",
    )


def _validated(rule: Rule) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(DECISIONS[rule.decides].settings)
    return adapter.validate_python(rule.value)


def _decision(name: str, rule: Rule, facts: Facts) -> Decision:
    known = facts.known()
    placeholders = [key for _, key, _, _ in string.Formatter().parse(rule.because) if key]
    used = [fact for fact in known if fact in rule.when or fact in placeholders]
    configuration: ConfigurationName | None = facts.configuration
    return Decision(
        name=name,
        configuration=configuration,
        value=rule.value,
        rule_id=rule.id,
        because=Reason().format(rule.because, **{fact: known.get(fact) for fact in FACT_NAMES}),
        facts={fact: known[fact] for fact in used},
        source=rule.source,
    )


def _explain(error: ValidationError, where: str, kind: type[Record] | None) -> list[str]:
    problems = []
    for issue in error.errors():
        location = ".".join(str(part) for part in issue["loc"])
        hint = ""
        if issue["type"] == "extra_forbidden" and kind is not None:
            inside_condition = issue["loc"][0] == "when" and len(issue["loc"]) > 2
            valid = list(COMPARISONS) if inside_condition else list(kind.model_fields)
            hint = _nearest(str(issue["loc"][-1]), valid)
        if issue["type"] == "model_type" and kind is None:
            hint = f" It must be a table {{ … }} with the keys of {issue['ctx']['class_name']}"
            hint += f": {', '.join(SETTINGS_KEYS.get(issue['ctx']['class_name'], ()))}."
        problems.append(f"{where}: {location or 'value'}: {issue['msg']}.{hint}")
    return problems


def _nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    close = get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Valid: {', '.join(valid)}."
