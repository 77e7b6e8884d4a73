"""Which of some model files are averaged with which, and what comes before what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.checkpoint import ModelCard, ModelSource, read_sources
from autoseg.errors import AutosegError
from autoseg.planning.plan import InferencePlan
from autoseg.postprocessing.recipe import Recipe, member_name


def sources_of(paths: Sequence[Path], recipe: Recipe | None) -> tuple[list[ModelSource], Recipe]:
    """All models of some files, and how they are used: as is asked for, or else as a pack says.

    Raises AutosegError when there is none, or a pack is not alone.
    """
    if not paths:
        raise AutosegError("no model file is named.")
    found = [read_sources(path) for path in paths]
    packs = [path for path, (_, own) in zip(paths, found, strict=True) if own is not None]
    if packs and len(paths) > 1:
        raise AutosegError(
            f"{packs[0]}: a pack holds all that predicts together. Give it alone, or model files."
        )
    sources = [source for own, _ in found for source in own]
    return sources, recipe or found[0][1] or Recipe()


@dataclass(frozen=True, slots=True)
class Members:
    """Models of one group: where they are, the number of the group before theirs in a cascade, and
    whether they answer, or are asked for a later stage alone."""

    sources: tuple[ModelSource, ...]
    previous: int | None
    answer: bool

    @property
    def card(self) -> ModelCard:
        """That of the first, predicting as all of them may."""
        plans = [source.card.configuration.inference for source in self.sources]
        card = self.sources[0].card
        shared = {"inference": _shared_inference(plans)}
        configuration = card.configuration.model_copy(update=shared)
        return card.model_copy(update={"configuration": configuration})


def arrange(sources: Sequence[ModelSource], recipe: Recipe) -> list[Members]:
    """Which models are averaged patch by patch, and what comes before what.

    Raises AutosegError when a stage is missing, or labels, channels or axes of models differ.
    """
    _check_alike(sources)
    together = _of_one_model(sources, apart=bool(recipe.members))
    previous = [
        None
        if members[0].card.configuration.previous_stage is None
        else _first_stage(together, members[0])
        for members in together
    ]
    return [
        Members(
            tuple(members),
            previous[index],
            answer=previous[index] is not None
            or index not in previous
            or _name(members[0].card) in recipe.members,
        )
        for index, members in enumerate(together)
    ]


def _name(card: ModelCard) -> str:
    return member_name(card.plan_name, card.configuration.name)


def _of_one_model(sources: Sequence[ModelSource], apart: bool) -> list[list[ModelSource]]:
    """Files of equal grid and model together; of second stages, those of one plan, which see what
    its own first stage finds. With `apart`, plans are never mixed."""
    together: list[list[ModelSource]] = []
    for source in sources:
        card = source.card
        for members in together:
            other = members[0].card
            same = card.configuration.is_same_model(other.configuration)
            alone = card.configuration.previous_stage is None and not apart
            if same and (alone or card.plan_name == other.plan_name):
                members.append(source)
                break
        else:
            together.append([source])
    return together


def _first_stage(together: Sequence[Sequence[ModelSource]], second: ModelSource) -> int:
    """Which of the groups predicts what a cascade's second stage sees."""
    card = second.card
    needed = (card.plan_name, card.configuration.previous_stage)
    found = [
        index
        for index, members in enumerate(together)
        if any((m.card.plan_name, m.card.configuration.name) == needed for m in members)
    ]
    if len(found) == 1:
        return found[0]
    what = f"{needed[1]} beside it, of the same plan ({needed[0]})"
    if not found:
        raise AutosegError(
            f"{second}: the second stage of a cascade, which needs a model of {what}. Give both "
            "with --model."
        )
    raise AutosegError(
        f"{second}: the second stage of a cascade, but there are different models of {what}. Give "
        "those that were trained alike."
    )


def _check_alike(sources: Sequence[ModelSource]) -> None:
    """Raise AutosegError when models do not answer the same question about the same voxels."""
    first, *others = sources
    for source in others:
        card = source.card
        if (card.labels, card.channel_names) != (first.card.labels, first.card.channel_names):
            raise AutosegError(
                f"{source} is of other labels or channels than {first}, so they cannot be "
                "averaged. Give models of one dataset."
            )
        tasks = [c.configuration.model.task.kind for c in (card, first.card)]
        if tasks[0] != tasks[1]:
            raise AutosegError(
                f"{source} answers otherwise ({tasks[0]}) than {first} ({tasks[1]}), so they "
                "cannot be averaged. Give models of one task."
            )
        own, other = card.configuration.grid, first.card.configuration.grid
        if (own.orientation, own.axis_order) != (other.orientation, other.axis_order):
            raise AutosegError(
                f"{source} sees scans along other axes than {first}, so they cannot be "
                "averaged. Give models of plans that order axes alike."
            )


def _shared_inference(plans: Sequence[InferencePlan]) -> InferencePlan:
    """How models that are averaged patch by patch predict: mirrored as all of them may be, with
    the smallest of their steps, the widest of their Gaussians and the least of objects."""
    axes = tuple(axis for axis in plans[0].mirror_axes if all(axis in p.mirror_axes for p in plans))
    shared = {
        "mirror_axes": axes,
        "step_fraction": min(plan.step_fraction for plan in plans),
        "gaussian_sigma_fraction": max(plan.gaussian_sigma_fraction for plan in plans),
        "smallest_object_mm": min(plan.smallest_object_mm for plan in plans),
    }
    return plans[0].model_copy(update=shared)
