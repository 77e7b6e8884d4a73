"""The way from the first stage of a cascade to the second: masks of cases that it had not seen."""

from pathlib import Path

from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.volume import read_labels
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import Configuration, Plan
from autoseg.preprocessing.placing import place_mask
from autoseg.preprocessing.prepare import source_file
from autoseg.preprocessing.store import (
    SUFFIX,
    StoredCase,
    is_stored,
    stored_placement,
    with_map,
    write_mask,
)
from autoseg.preprocessing.tilt import tilt_of
from autoseg.work_folder import WorkFolder


def with_previous_masks(
    work: WorkFolder, plan: Plan, configuration: Configuration, cases: dict[str, StoredCase]
) -> dict[str, StoredCase]:
    """Cases beside what the previous stage predicted for them when they were held out.

    The masks are put on the plan's grid once, beside the models. Raises AutosegError naming the
    cases that no fold of the previous stage has predicted.
    """
    assert configuration.previous_stage is not None
    predicted = _held_out_masks(work, plan, configuration.previous_stage)
    raise_if_any(
        [
            f"{case_id}: no fold of {configuration.previous_stage} has predicted it while it was "
            "held out. Train all of its folds."
            for case_id in sorted(cases.keys() - predicted.keys())
        ],
        f"{configuration.name} cannot be trained yet",
    )
    folder = work.previous_masks(plan.name, configuration.name)
    found = {}
    for case_id, case in cases.items():
        mask = folder / f"{case_id}{SUFFIX}"
        _place(predicted[case_id], mask, case, plan, configuration)
        found[case_id] = with_map(case, "stage_mask", mask)
    return found


def _held_out_masks(work: WorkFolder, plan: Plan, stage: ConfigurationName) -> dict[str, Path]:
    """The mask of every case by the fold that held it out."""
    from autoseg.checkpoint import read_card  # torch takes seconds to import

    masks: dict[str, Path] = {}
    for index, fold in enumerate(work.splits().folds):
        folder = work.fold(plan.name, stage, index)
        if not folder.summary.exists():
            continue
        if read_card(folder.model).held_out != fold.validation:
            raise AutosegError(
                f"{folder.root} was trained with other folds, so it has seen cases that are held "
                "out now. Train it anew with --overwrite."
            )
        there = {case_id: folder.mask(case_id) for case_id in fold.validation}
        masks |= {case_id: path for case_id, path in there.items() if path.exists()}
    return masks


def _place(
    predicted: Path, mask: Path, case: StoredCase, plan: Plan, configuration: Configuration
) -> None:
    """Store a predicted mask on the plan's grid, unless that was done before."""
    if case.path is None:
        raise AutosegError(f"{predicted}: its case is not stored, so its grid is not known.")
    sources = (source_file(predicted), source_file(case.path))
    if is_stored(mask, sources):
        return
    placement = stored_placement(case.path)
    found = read_labels(predicted)
    classes, tilt = plan.labels.encode_mask(found.array), tilt_of(found.grid)
    classes = classes if tilt is None else tilt.labels_upright(classes)
    on_grid = place_mask(classes, placement, configuration.grid)
    write_mask(mask, on_grid, placement, sources, configuration.grid.spatial_dims)
