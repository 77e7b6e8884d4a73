"""Folds for cross-validation: no patient is in both parts of one."""

from collections.abc import Sequence

import numpy as np

from autoseg.records import Record

FOLD_COUNT = 5
SEED = 12345  # with one case per patient these are the folds that nnU-Net v2 makes


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


def make_splits(patients: dict[str, str]) -> Splits:
    """Shuffled folds of whole patients, the same for the same case ids.

    `patients` maps case ids to patient ids. Five folds, or one per patient when there are fewer;
    a single patient gives none, so that only training on every case remains.
    """
    patient_ids = sorted(set(patients.values()))
    count = min(FOLD_COUNT, len(patient_ids))
    if count < 2:
        return Splits(cases=tuple(sorted(patients)), folds=())
    shuffled = np.random.RandomState(SEED).permutation(len(patient_ids))
    folds = []
    for held_out in np.array_split(shuffled, count):
        held_out_patients = {patient_ids[index] for index in held_out}
        validation = tuple(c for c in sorted(patients) if patients[c] in held_out_patients)
        train = tuple(c for c in sorted(patients) if patients[c] not in held_out_patients)
        folds.append(Fold(train=train, validation=validation))
    return Splits(cases=tuple(sorted(patients)), folds=tuple(folds))


def given_splits(
    cases: Sequence[str], folds: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> Splits:
    """The folds that a dataset brings along, each the ids to train on and those held out."""
    return Splits(
        cases=tuple(sorted(cases)),
        folds=tuple(Fold(train=train, validation=held_out) for train, held_out in folds),
    )
