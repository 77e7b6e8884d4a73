"""Which of several models, or of their ensembles, is to be used, by cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoseg.evaluation.patients import Interval, Patients, Scores, class_means, overall
from autoseg.records import Record

ALL_SUBSETS_OF = 5  # configurations at most; of more, not every ensemble is tried

Subset = tuple[int, ...]  # members by number, in order


class ScoredCandidate(Record):
    """A configuration or an ensemble of several, over all held-out cases.

    `gap` is by how much the best one is better, with the interval of that difference; `seconds` are
    those of one model of each member for a scan.
    """

    members: tuple[str, ...]
    score: float
    standard_error: float
    interval: Interval
    classes: dict[str, float | None]
    gap: float
    gap_interval: Interval
    seconds: float

    @property
    def name(self) -> str:
        return " + ".join(self.members)

    def negated(self) -> "ScoredCandidate":
        """The same for a metric of which less is better."""
        return self.model_copy(
            update={
                "score": -self.score,
                "interval": Interval(low=-self.interval.high, high=-self.interval.low),
                "classes": {n: None if s is None else -s for n, s in self.classes.items()},
            }
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate to use, by number, and why."""

    index: int
    because: str


def subsets_to_try(ranking: Sequence[int]) -> tuple[Subset, ...]:
    """Single members, then their ensembles, smaller ones first; `ranking` is from the best on.

    Of more than five members: single ones, pairs, and the best three, four and so on.
    """
    members = sorted(ranking)
    largest = len(members) if len(members) <= ALL_SUBSETS_OF else 2
    subsets = [s for size in range(1, largest + 1) for s in combinations(members, size)]
    growing = [tuple(sorted(ranking[:size])) for size in range(largest + 1, len(members) + 1)]
    return (*subsets, *growing)


def score_candidates(
    scores: Mapping[tuple[str, ...], Scores],
    classes: Sequence[str],
    seconds: Mapping[str, float],
    patients: Patients,
) -> tuple[ScoredCandidate, ...]:
    """Means and intervals of candidates by their members; more is better in all of `scores`."""
    best = max(scores.values(), key=overall)
    return tuple(
        ScoredCandidate(
            members=members,
            score=overall(own),
            standard_error=patients.standard_error(own),
            interval=patients.interval(own),
            classes={
                name: None if np.isnan(mean) else float(mean)
                for name, mean in zip(classes, class_means(own), strict=True)
            },
            gap=overall(best) - overall(own),
            gap_interval=patients.gain(own, best),
            seconds=sum(seconds[member] for member in members),
        )
        for members, own in scores.items()
    )


def choose_candidate(candidates: Sequence[ScoredCandidate]) -> Choice:
    """The best single one within a standard error of the best of all (Breiman et al. 1984, section
    3.4.3); else the best, and of equal ones that of fewest members."""
    best = _best(candidates, range(len(candidates)))
    singles = [i for i, candidate in enumerate(candidates) if len(candidate.members) == 1]
    alone = _best(candidates, singles)
    top, single = candidates[best], candidates[alone]
    if best == alone:
        return Choice(best, f"{top.name} scores best: {abs(top.score):.4f}")
    cost = f"takes {top.seconds / single.seconds:.1f} times as long" if single.seconds else ""
    if single.score >= top.score - top.standard_error:
        return Choice(
            alone,
            f"{single.name} alone scores {abs(single.score):.4f}, within one standard error "
            f"({top.standard_error:.4f}) of the best, {top.name} "
            f"({abs(top.score):.4f}), which {cost}",
        )
    return Choice(
        best,
        f"{top.name} scores {abs(top.score):.4f}, more than one standard error "
        f"({top.standard_error:.4f}) above the best single one, {single.name} "
        f"({abs(single.score):.4f}); it {cost}",
    )


def choose_as_nnunet(candidates: Sequence[ScoredCandidate]) -> Choice:
    """The highest score, and of equal ones the first (nnU-Net's `find_best_configuration`)."""
    best = max(range(len(candidates)), key=lambda index: candidates[index].score)
    return Choice(best, f"{candidates[best].name} scores best: {candidates[best].score:.4f}")


def _best(candidates: Sequence[ScoredCandidate], among: Sequence[int]) -> int:
    return min(among, key=lambda i: (-candidates[i].score, len(candidates[i].members), i))
