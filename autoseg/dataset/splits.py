"""Folds for cross-validation: no patient is in both parts of one."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from autoseg.records import Record

FOLD_COUNT = 5
SEED = 12345  # with one case per patient, shuffled folds are those that nnU-Net v2 makes


class Fold(Record):
    """Case ids to train on, and those held out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Splits(Record):
    """All folds of a dataset; none when there is a single patient, `cases` says of what."""

    cases: tuple[str, ...]
    folds: tuple[Fold, ...]

    def case_ids(self) -> set[str]:
        """Every case of the dataset when the folds were made."""
        return set(self.cases)

    def mixed_patients(self, patients: dict[str, str]) -> set[str]:
        """Patients with scans on both sides of a fold; `patients` maps case ids to them."""
        mixed: set[str] = set()
        for fold in self.folds:
            sides = [
                {patients.get(case, case) for case in s} for s in (fold.train, fold.validation)
            ]
            mixed |= sides[0] & sides[1]
        return mixed


def make_splits(
    patients: dict[str, str], presence: Mapping[str, Collection[int]] | None = None
) -> Splits:
    """Shuffled folds of whole patients, the same for the same case ids.

    `patients` maps case ids to patient ids. Five folds, or one per patient when there are fewer;
    a single patient gives none, so that only training on every case remains. `presence` says which
    classes each case has: where plain shuffling would hold out nobody with a class that enough
    patients have, patients are dealt out class by class, if that is better.
    """
    patient_ids = sorted(set(patients.values()))
    count = min(FOLD_COUNT, len(patient_ids))
    if count < 2:
        return Splits(cases=tuple(sorted(patients)), folds=())
    shuffled = np.random.RandomState(SEED).permutation(len(patient_ids))
    groups = [
        {patient_ids[index] for index in held_out} for held_out in np.array_split(shuffled, count)
    ]
    classes: dict[str, set[int]] = {patient: set() for patient in patient_ids}
    for case_id, present in (presence or {}).items():
        classes[patients[case_id]] |= set(present)
    if missing := _missing(groups, classes):
        dealt = _dealt_out([patient_ids[index] for index in shuffled], classes, count)
        groups = dealt if _missing(dealt, classes) < missing else groups
    folds = []
    for held_out_patients in groups:
        validation = tuple(c for c in sorted(patients) if patients[c] in held_out_patients)
        train = tuple(c for c in sorted(patients) if patients[c] not in held_out_patients)
        folds.append(Fold(train=train, validation=validation))
    return Splits(cases=tuple(sorted(patients)), folds=tuple(folds))


def _missing(groups: Sequence[set[str]], classes: Mapping[str, set[int]]) -> int:
    """How often a fold holds out nobody with a class, although there are enough for that."""
    missing = 0
    for value in set().union(*classes.values()):
        having = {patient for patient, present in classes.items() if value in present}
        reached = sum(1 for group in groups if group & having)
        missing += min(len(groups), len(having)) - reached
    return missing


def _dealt_out(
    patients: Sequence[str], classes: Mapping[str, set[int]], count: int
) -> list[set[str]]:
    """Patients dealt out to folds class by class, the rarest first.

    Each goes to the fold that has fewest of the class, then fewest patients: the iterative
    stratification of Sechidis et al. 2011 (doi:10.1007/978-3-642-23808-6_10), with folds of nearly
    equal size.
    """
    groups: list[set[str]] = [set() for _ in range(count)]
    most = -(-len(patients) // count)
    left = list(patients)

    def deal(patient: str, value: int | None) -> None:
        open_groups = [group for group in groups if len(group) < most]
        fewest = min(open_groups, key=lambda g: (sum(value in classes[p] for p in g), len(g)))
        fewest.add(patient)
        left.remove(patient)

    while values := {value for patient in left for value in classes[patient]}:
        rarest = min(values, key=lambda v: (sum(v in classes[p] for p in left), v))
        for patient in [p for p in left if rarest in classes[p]]:
            deal(patient, rarest)
    for patient in list(left):
        deal(patient, None)
    return groups


def given_splits(
    cases: Sequence[str], folds: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> Splits:
    """The folds that a dataset brings along, each the ids to train on and those held out."""
    return Splits(
        cases=tuple(sorted(cases)),
        folds=tuple(Fold(train=train, validation=held_out) for train, held_out in folds),
    )
