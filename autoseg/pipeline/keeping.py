"""What a new plan keeps of a work folder: its models and folds, and a dataset that moved."""

import logging

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import given_splits, make_splits
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.plan import Configuration, Plan
from autoseg.work_folder import WorkFolder

log = logging.getLogger(__name__)

NAMED = 5  # cases, in a message


def make_way_for(work: WorkFolder, plan: Plan, overwrite: bool) -> None:
    """Refuse to change a plan under models that were trained with it; or delete them."""
    if not work.plan_path(plan.name).is_file() or not work.has_models(plan.name):
        return
    try:
        earlier = work.plan(plan.name).configurations
        if earlier == plan.configurations:
            return
        if earlier == _of_earlier_versions(plan):
            log.warning(
                "%s holds models that leave no object out as too small: they were planned without "
                "inference.smallest_object_mm. `predict --instances --min-volume MM3` does.",
                work.plan_models(plan.name),
            )
            return
    except AutosegError:  # of an older autoseg, or damaged
        if not overwrite:
            raise
    if not overwrite:
        raise AutosegError(
            f"{work.plan_models(plan.name)} holds models of another plan named {plan.name!r}. "
            "Keep them and give the new plan a --name, or delete them with --overwrite."
        )
    work.delete_models(plan.name)


def _of_earlier_versions(plan: Plan) -> dict[str, Configuration]:
    """The configurations before things could be too small, which no training knows: models of these
    stay, and leave nothing out."""
    return {
        name: configuration.model_copy(
            update={
                "inference": configuration.inference.model_copy(update={"smallest_object_mm": 0.0})
            }
        )
        for name, configuration in plan.configurations.items()
    }


def keep_or_make_splits(
    work: WorkFolder, dataset: Dataset, fingerprint: Fingerprint, overwrite: bool
) -> None:
    """Folds stay as they are, edited by the user or not, while the cases are the same.

    It is said where they are not, or no longer, those that the dataset brings along.
    """
    patients = {case.case_id: case.patient_id for case in dataset.cases}
    if dataset.folds:
        splits = given_splits(list(patients), dataset.folds)
    else:
        values = set(fingerprint.labels.values[1:])
        present = {c.case_id: values & c.label_voxels.keys() for c in fingerprint.cases}
        splits = make_splits(patients, present)
    if work.has_splits():
        kept = work.read_splits()
        if kept == splits:  # may mix patients, if the dataset says so, of which `check` warns
            return
        mixed = kept.mixed_patients(patients)
        if mixed and not overwrite:
            raise AutosegError(
                f"{work.splits_path}: {', '.join(sorted(mixed)[:NAMED])} are both trained "
                "on and held out in one fold. Make new folds with --overwrite."
            )
        if kept.case_ids() == splits.case_ids() and not mixed:
            tell_of_other_folds(work, dataset)
            return
        if not overwrite:
            raise AutosegError(
                f"{work.splits_path} is of other cases than the dataset has now. Make "
                "new folds with --overwrite (models trained on the old ones have seen other "
                "cases), or choose another work folder with --work."
            )
        work.check_not_training()
    work.save_splits(splits)


def tell_of_other_folds(work: WorkFolder, dataset: Dataset) -> None:
    """Say so where the folds in use are not those that the dataset brings along."""
    given = given_splits([case.case_id for case in dataset.cases], dataset.folds)
    if dataset.folds and given.folds != work.read_splits().folds:
        log.warning(
            "%s is kept, and is not what %s gives as folds. To train on those, delete it and plan "
            "again, or in another work folder (--work) where models were trained, which have seen "
            "other cases.",
            work.splits_path,
            dataset.root,
        )


def is_elsewhere(work: WorkFolder, dataset: Dataset) -> bool:
    """Whether a work folder was planned for a dataset in another place.

    Raises AutosegError when that one has other cases, so that it is another dataset.
    """
    place = work.dataset()
    if place is None or place == dataset.root.resolve():
        return False
    before = {case.case_id for case in _planned_for(work, dataset).cases}
    now = {case.case_id for case in dataset.cases}
    differences = [
        f"{what} ({len(cases)}): {', '.join(sorted(cases)[:NAMED])}"
        for cases, what in ((before - now, "missing here"), (now - before, "new"))
        if cases
    ]
    if differences:
        raise AutosegError(_refusal(work, dataset, "; ".join(differences)))
    return True


def check_contents(work: WorkFolder, dataset: Dataset, found: Fingerprint) -> None:
    """Raises AutosegError that says what differs from the dataset as it was where it lay before."""
    planned = _planned_for(work, dataset)
    before = {case.case_id: case for case in planned.cases}
    changed = [case.case_id for case in found.cases if case != before.get(case.case_id)]
    differences = [f"{', '.join(changed[:NAMED])} is not what it was"] if changed else []
    if (found.labels, found.channel_names) != (planned.labels, planned.channel_names):
        differences.append("its labels or channels are not those that were planned for")
    if differences:
        raise AutosegError(_refusal(work, dataset, "; ".join(differences)))


def _planned_for(work: WorkFolder, dataset: Dataset) -> Fingerprint:
    try:
        return work.fingerprint()
    except AutosegError as error:  # of an older autoseg, or damaged
        raise AutosegError(_refusal(work, dataset, "its fingerprint cannot be read")) from error


def _refusal(work: WorkFolder, dataset: Dataset, differences: str) -> str:
    return (
        f"{work.root} belongs to the dataset {work.dataset()}, and {dataset.root} is another one: "
        f"{differences}. Choose another work folder with --work, or delete this one."
    )
