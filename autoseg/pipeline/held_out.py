"""Masks of held-out cases by all candidates and their ensembles, each made once and kept."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import Field

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.reading import aligned, read_label_map
from autoseg.errors import raise_if_any
from autoseg.evaluation.calibration import BINS, Reliability, pool_reliability
from autoseg.evaluation.selection import Subset
from autoseg.images.volume import write_labels
from autoseg.inference.engines import EngineName
from autoseg.inference.predictor import Predictor, ReadyScan
from autoseg.inference.subsets import Reference, SubsetMask, segment_subsets
from autoseg.parallel import Progress, explain_failure
from autoseg.pipeline.candidates import Found
from autoseg.pipeline.scan_by_scan import ready_scans
from autoseg.postprocessing.recipe import Recipe
from autoseg.postprocessing.steps import Confidence
from autoseg.records import Record, load_record, save_record
from autoseg.work_folder import WorkFolder


class HeldOutCase(Record):
    """A case whose masks are there: by which models, by hash; how sure each ensemble is of each
    class, and whether that is true, of cases that earlier versions predicted not known; and the
    seconds of each configuration's one model."""

    models: dict[str, tuple[str, ...]]
    confidences: dict[str, dict[str, Confidence]]
    seconds: dict[str, float]
    reliability: dict[str, tuple[Reliability, ...]] = Field(default_factory=dict)


class Running(Record):
    """Where and how networks run; None is what is fastest."""

    device: str | None = None
    engine: EngineName | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """All held-out masks of some candidates: `cases` by fold, in the order of their names."""

    work: WorkFolder
    found: Found
    subsets: tuple[Subset, ...]
    cases: Mapping[int, tuple[Case, ...]]

    def name(self, subset: Subset) -> str:
        """What a subset's folder is called."""
        return "+".join(self.found.members[i].name.replace("/", ".") for i in subset)

    def mask(self, subset: Subset, case_id: str) -> Path:
        return self.work.held_out_mask(self.name(subset), case_id)

    def record(self, case_id: str) -> HeldOutCase:
        return load_record(HeldOutCase, self.work.held_out_record(case_id))

    def confidences(self, subset: Subset, case_id: str) -> dict[str, Confidence]:
        return self.record(case_id).confidences[self.name(subset)]

    def seconds(self) -> dict[str, float]:
        """What one model of each member takes for a scan, in the median of all cases."""
        records = [self.record(case.case_id) for cases in self.cases.values() for case in cases]
        return {
            member.name: median(record.seconds[member.name] for record in records)
            for member in self.found.members
        }


def predict_held_out(held_out: HeldOut, running: Running, progress: Progress) -> int:
    """Make the masks that are missing, or are of models that were trained anew; how many cases.

    Raises AutosegError that names the cases that could not be segmented.
    """
    missing = {
        fold: [case for case in cases if not _is_done(held_out, fold, case.case_id)]
        for fold, cases in held_out.cases.items()
    }
    total = sum(map(len, missing.values()))
    done, problems = 0, []
    everyone = tuple(range(len(held_out.found.members)))
    for fold, cases in missing.items():
        if not cases:
            continue
        predictor = predictor_of_fold(held_out, fold, everyone, running)
        with ThreadPoolExecutor(1) as reader:
            for case, ready in ready_scans(predictor, cases, reader):
                progress(done, total, "predicting held-out scans")
                try:
                    if isinstance(ready, Exception):
                        raise ready
                    _keep(held_out, fold, case, predictor, ready)
                except Exception as error:
                    problems.append(explain_failure(case.case_id, error))
                done += 1
    progress(total, total, "predicting held-out scans")
    raise_if_any(problems, "Held-out scans could not be segmented")
    return total


def _is_done(held_out: HeldOut, fold: int, case_id: str) -> bool:
    """Whether all masks of a case are there that are wanted, and of these very models."""
    path = held_out.work.held_out_record(case_id)
    if not path.is_file():
        return False
    record = load_record(HeldOutCase, path)
    current = {member.name: member.hashes(fold) for member in held_out.found.members}
    return all(record.models.get(name) == hashes for name, hashes in current.items()) and all(
        held_out.name(subset) in record.confidences and held_out.mask(subset, case_id).is_file()
        for subset in held_out.subsets
    )


def predictor_of_fold(held_out: HeldOut, fold: int, subset: Subset, running: Running) -> Predictor:
    """The models of a fold of some candidates, a group of its own for each candidate."""
    predictors = [
        Predictor.load(
            [held_out.work.root / model.path for model in member.folds[fold]],
            running.device,
            engine=running.engine,
            cache=running.cache,
            recipe=Recipe(),
        )
        for member in (held_out.found.members[index] for index in subset)
    ]
    groups = tuple(group for predictor in predictors for group in predictor.groups)
    return replace(predictors[0], groups=groups)


def pooled_reliability(held_out: HeldOut, subset: Subset) -> tuple[Reliability, ...]:
    """Of all cases together; empty if it is not known of every one."""
    records = [held_out.record(case.case_id) for own in held_out.cases.values() for case in own]
    name = held_out.name(subset)
    if not all(name in record.reliability for record in records):
        return ()
    return pool_reliability([record.reliability[name] for record in records])


def _keep(held_out: HeldOut, fold: int, case: Case, predictor: Predictor, ready: ReadyScan) -> None:
    """Write all masks of a case, and last the record that says so."""
    case_id, reference = case.case_id, _reference(case, ready, predictor.card.labels)
    found = segment_subsets(predictor, ready, held_out.subsets, reference)
    held_out.work.held_out_record(case_id).unlink(missing_ok=True)  # of earlier models
    for subset, own in found.masks.items():
        write_labels(held_out.mask(subset, case_id), own.labels)
    names = [member.name for member in held_out.found.members]
    record = HeldOutCase(
        models={member.name: member.hashes(fold) for member in held_out.found.members},
        confidences={held_out.name(s): own.confidences for s, own in found.masks.items()},
        seconds=dict(zip(names, found.seconds, strict=True)),
        reliability={held_out.name(s): _reliability(own) for s, own in found.masks.items()},
    )
    save_record(record, held_out.work.held_out_record(case_id))


def _reference(case: Case, ready: ReadyScan, labels: LabelScheme) -> Reference:
    """What was drawn, voxel by voxel of the scan as networks see it."""
    assert case.label is not None, case.case_id
    scan = ready.with_values(np.empty(ready.seen_grid.shape_vox, np.uint8))  # for its grid
    own = aligned(read_label_map(case.label), scan)
    drawn = labels.encode(own.array, own.grid.spacing_mm)
    return Reference(drawn if ready.tilt is None else ready.tilt.labels_upright(drawn), BINS)


def _reliability(found: SubsetMask) -> tuple[Reliability, ...]:
    return tuple(Reliability.of(name, own) for name, own in (found.reliability or {}).items())
