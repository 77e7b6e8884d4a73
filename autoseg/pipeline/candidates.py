"""Trained configurations of a work folder that can be compared, and their models by fold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.checkpoint import content_hash, read_card
from autoseg.errors import AutosegError
from autoseg.planning.plan import Configuration, Plan
from autoseg.postprocessing.recipe import member_name
from autoseg.records import Record
from autoseg.work_folder import WorkFolder


class FileOfModel(Record):
    """A model file of a work folder, and blake2b of its content."""

    path: Path  # from the work folder on
    hash: str


@dataclass(frozen=True, slots=True)
class Trained:
    """A configuration of a plan: for each trained fold its models, a cascade's first stage last."""

    plan: str
    configuration: Configuration
    folds: dict[int, tuple[FileOfModel, ...]]

    @property
    def name(self) -> str:
        return member_name(self.plan, self.configuration.name)

    def hashes(self, fold: int) -> tuple[str, ...]:
        return tuple(model.hash for model in self.folds[fold])


@dataclass(frozen=True, slots=True)
class Found:
    """What can be compared on which folds, and what was left out or is missing."""

    members: tuple[Trained, ...]
    folds: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Search:
    """Where is looked for what, and what was noticed on the way."""

    work: WorkFolder
    current: Plan
    notes: list[str] = field(default_factory=list)


def find_candidates(
    work: WorkFolder, plans: Sequence[str] = (), configurations: Sequence[str] = ()
) -> Found:
    """Configurations of which folds are trained, first stages before cascades; all that there are,
    or those that are named.

    Folds are those that all of them have. Raises AutosegError when there is no such fold.
    """
    first = plans[0] if plans else next(filter(work.has_models, work.plan_names()), None)
    search = _Search(work, work.plan(first))
    members = [
        trained
        for plan in _plans(search, plans)
        for trained in _trained_of(search, plan, configurations)
    ]
    if not members:
        wanted = f" of {', '.join(configurations)}" if configurations else ""
        raise AutosegError(
            f"{work.root}: no fold{wanted} is trained yet that could be compared. Run `autoseg "
            f"train` first.{''.join(f' {note}' for note in search.notes)}"
        )
    members.sort(key=lambda member: member.configuration.previous_stage is not None)
    folds = tuple(
        fold
        for fold in range(len(work.splits().folds))
        if all(fold in member.folds for member in members)
    )
    missing = list(_missing(members, len(work.splits().folds)))
    if not folds:
        raise AutosegError(
            f"{work.root}: no fold is trained of all of {', '.join(m.name for m in members)}. "
            "Train one (autoseg train), or name fewer with --configuration. "
            f"{' '.join(missing)}"
        )
    return Found(tuple(members), folds, (*search.notes, *missing))


def _plans(search: _Search, names: Sequence[str]) -> Iterator[Plan]:
    """Plans of the same classes and channels."""
    for name in names or search.work.plan_names():
        try:
            plan = search.work.plan(name)
        except AutosegError as error:
            if names:
                raise
            search.notes.append(f"Plan {name} is left out: {error}")
            continue
        same = (search.current.labels, search.current.channel_names)
        if (plan.labels, plan.channel_names) == same:
            yield plan
        else:
            search.notes.append(
                f"Plan {name} is left out: it is of other labels or channels than "
                f"{search.current.name}."
            )


def _trained_of(search: _Search, plan: Plan, configurations: Sequence[str]) -> Iterator[Trained]:
    own = search.current.configurations[search.current.recommended]
    for configuration in plan.configurations.values():
        if configurations and configuration.name not in configurations:
            continue
        folds = {
            fold: models
            for fold in range(len(search.work.splits().folds))
            if (models := _models(search, plan, configuration, fold)) is not None
        }
        if not folds:
            continue
        if (why := _why_apart(configuration, own)) is not None:
            name = member_name(plan.name, configuration.name)
            search.notes.append(
                f"{name} is left out: it {why} than plan {search.current.name}, so they cannot be "
                "averaged."
            )
            continue
        yield Trained(plan.name, configuration, folds)


def _why_apart(one: Configuration, other: Configuration) -> str | None:
    """What one does otherwise, so that answers of both cannot be averaged; None if nothing."""
    grids = [(c.grid.orientation, c.grid.axis_order) for c in (one, other)]
    if grids[0] != grids[1]:
        return "sees scans along other axes"
    if one.model.task.kind != other.model.task.kind:
        return f"answers otherwise ({one.model.task.kind})"
    return None


def _models(
    search: _Search, plan: Plan, configuration: Configuration, fold: int
) -> tuple[FileOfModel, ...] | None:
    """The models of a fold; None where they are not there, or were trained on other folds."""
    work = search.work
    stages = [configuration.name, configuration.previous_stage]
    paths = [work.fold(plan.name, stage, fold).model for stage in stages if stage is not None]
    if not all(path.is_file() for path in paths):
        return None
    held_out = work.splits().folds[fold].validation
    for card in map(read_card, paths):
        if card.held_out != held_out:
            name = member_name(plan.name, configuration.name)
            search.notes.append(
                f"Fold {fold} of {name} is left out: it was trained with other folds, so it has "
                "seen cases that are held out now. Train it anew with --overwrite."
            )
            return None
    return tuple(
        FileOfModel(path=path.relative_to(work.root), hash=content_hash(path.read_bytes()))
        for path in paths
    )


def _missing(members: Sequence[Trained], count: int) -> Iterator[str]:
    """Which folds are not trained of whom; they are not used of anyone."""
    for member in members:
        folds = [str(fold) for fold in range(count) if fold not in member.folds]
        if folds:
            which = f"Fold {folds[0]}" if len(folds) == 1 else f"Folds {', '.join(folds)}"
            yield (
                f"{which} of {member.name} {'is' if len(folds) == 1 else 'are'} not trained, and "
                "left out for all."
            )
