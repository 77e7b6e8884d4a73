"""Work folders of models with random weights, and what is selected of them."""

from pathlib import Path

import torch

from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.evaluation.selection_record import (
    ReportedStep,
    SelectedMember,
    SelectedModel,
    Selection,
)
from autoseg.pipeline.candidates import find_candidates
from autoseg.postprocessing.steps import Absent, LargestComponent
from autoseg.records import load_record, save_record
from autoseg.work_folder import WorkFolder

CONFIGURATIONS = ("2d", "3d_lowres", "3d_cascade_fullres")


def write_fold(work: WorkFolder, configuration: str, fold: int, seed: int = 0) -> Path:
    """A model of a fold that was never trained; of another seed, another one."""
    plan = work.plan(None)
    planned = plan.configuration(configuration)
    torch.manual_seed(17 * seed + 5 * fold + len(configuration))
    card = ModelCard(
        plan_name=plan.name,
        configuration=planned,
        labels=plan.labels,
        channel_names=plan.channel_names,
        fold=fold,
        trained_cases=2,
        trained_iterations=0,
        trained_seconds=0.0,
        held_out=work.splits().folds[fold].validation,
    )
    path = work.fold(plan.name, planned.name, fold).model
    save_model(path, build_network(planned.model), card)
    return path


def selection_of(work: WorkFolder) -> Selection:
    return load_record(Selection, work.selection)


def scan_of(work: WorkFolder, case_id: str) -> Path:
    return work.root.parent / "data" / "imagesTr" / f"{case_id}_0000.nii.gz"


def folder_of(members: tuple[str, ...]) -> str:
    return "+".join(member.replace("/", ".") for member in members)


def paths_of(work: WorkFolder, members: tuple[str, ...], fold: int) -> list[Path]:
    """All files that an ensemble needs for a fold."""
    plan = work.plan(None)
    configurations = [plan.configuration(member.split("/")[1]) for member in members]
    names = [c.name for c in configurations]
    names += [c.previous_stage for c in configurations if c.previous_stage is not None]
    return [work.fold(plan.name, name, fold).model for name in dict.fromkeys(names)]


def with_everything(work: WorkFolder) -> Selection:
    """A selection of all three configurations, with steps."""
    found = find_candidates(work)
    members = tuple(
        SelectedMember(
            plan=member.plan,
            configuration=member.configuration.name,
            models=tuple(
                SelectedModel(path=str(m.path), hash=m.hash)
                for fold in (0, 1)
                for m in member.folds[fold]
            ),
        )
        for member in found.members
    )
    steps = (
        LargestComponent(of="foreground", values=(1, 2, 3)),
        Absent(of="core", values=(2,), measure="mean_probability", threshold=0.999),
    )
    selection = selection_of(work)
    reported = tuple(ReportedStep(step=step, what="", gain=0) for step in steps)
    changed = selection.postprocessing.model_copy(update={"steps": reported})
    selection = selection.model_copy(update={"members": members, "postprocessing": changed})
    save_record(selection, work.selection)
    return selection
