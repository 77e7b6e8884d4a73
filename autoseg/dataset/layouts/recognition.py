"""Ways in which datasets lie on disk: recognised by what is there, never asked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.bids import is_bids, read_bids
from autoseg.dataset.layouts.coco import is_coco, read_coco
from autoseg.dataset.layouts.dicom import is_dicom_folder, read_dicom_folder
from autoseg.dataset.layouts.manifest import is_manifest, read_manifest
from autoseg.dataset.layouts.msd import is_msd, read_msd
from autoseg.dataset.layouts.naming import first_of_each_name
from autoseg.dataset.layouts.nndetection import is_nndetection, read_nndetection
from autoseg.dataset.layouts.nnunet_raw import is_nnunet_raw, read_nnunet_raw
from autoseg.dataset.layouts.plain import is_instances, is_plain, read_instances, read_plain
from autoseg.dataset.layouts.unrecognised import what_it_lacks, what_lies_near
from autoseg.dataset.problems import Problem, raise_errors
from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS

LONGEST_NAME_BYTES = 200  # file systems allow 255, and files are named after cases, and more


@dataclass(frozen=True, slots=True)
class Layout:
    """How to recognise a layout, how to read it, and how to describe it to a user.

    `read` appends what is wrong to a list, and leaves out cases that are not complete.
    """

    recognise: Callable[[Path], bool]
    read: Callable[[Path, list[Problem]], Dataset]
    description: str


def open_dataset(root: Path, labels: LabelScheme | None = None) -> Dataset:
    """Recognise a dataset's layout and list its cases; no image is opened.

    `labels` stands in where the dataset declares none. Raises AutosegError when the folder is
    absent or empty, its layout is none that is supported, or files are missing; every problem is
    listed.
    """
    dataset, problems = survey_dataset(root)
    raise_errors(problems, f"{root}: the dataset is incomplete")
    if not dataset.cases:
        raise AutosegError(
            f"{root}: holds {len(dataset.test_cases)} scans, but no labels to learn from. Add "
            "labels (of BIDS in derivatives/, of DICOM as SEG or RTSTRUCT files that refer to "
            "them), or segment them with `autoseg predict`."
        )
    return dataset if dataset.labels else replace(dataset, labels=labels)


def survey_dataset(root: Path) -> tuple[Dataset, list[Problem]]:
    """A dataset's complete cases, and what is wrong with its files' names and lists.

    Raises AutosegError when the layout is none that is supported, or its description is unusable.
    """
    if not root.exists():
        raise AutosegError(f"{root}: there is no such dataset. Give the path to its folder.")
    supported = "\n".join(f"  - {layout.description}" for layout in LAYOUTS.values())
    if root.name == "dataset.json" and root.is_file():
        raise AutosegError(f"{root}: give the folder that it lies in, {root.parent}.")
    if root.is_file() and not is_manifest(root):
        raise AutosegError(
            f"{root}: neither an image of a known format ({', '.join(ENDINGS)}) nor a table of "
            "scans (.csv, .json)."
        )
    if root.is_dir() and not any(root.iterdir()):
        raise AutosegError(f"{root}: this folder is empty. Supported layouts:\n{supported}")
    layout = _layout_of(root)
    if layout is not None:
        problems: list[Problem] = []
        return _usable(layout.read(root, problems), problems), problems
    lacking = what_it_lacks(root) or what_lies_near(root, _is_dataset)
    if lacking is not None:
        raise AutosegError(f"{root}: {lacking}")
    raise AutosegError(
        f"{root}: no supported dataset layout is recognised here. Supported layouts:\n{supported}"
    )


def _layout_of(root: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS.values() if layout.recognise(root)), None)


def _is_dataset(root: Path) -> bool:
    try:
        layout = _layout_of(root)
        return layout is not None and layout is not LAYOUTS["dicom"]  # which any folder may be
    except AutosegError:  # its description cannot be read, but it was not asked for
        return False


def _usable(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """The dataset without cases whose results would have no name, or that of others."""
    cases = first_of_each_name(
        dataset.cases, lambda case: case.case_id, lambda case: case.files()[0], problems
    )
    for case in (*cases.values(), *dataset.test_cases):
        if _is_too_long(case.case_id):
            problems.append(
                Problem(
                    kind="naming",
                    case_id=case.case_id,
                    file=str(case.files()[0]),
                    what=f"its name has {len(os.fsencode(case.case_id))} bytes. Files are named "
                    f"after it, which must have {LONGEST_NAME_BYTES} at most.",
                    fix="Give it a shorter name.",
                )
            )
    kept = tuple(case for case in cases.values() if not _is_too_long(case.case_id))
    tests = tuple(case for case in dataset.test_cases if not _is_too_long(case.case_id))
    scans_alone = dataset.layout in ("bids", "dicom") and tests  # which `check` looks at
    if (
        not kept
        and not scans_alone
        and not any(problem.severity == "error" for problem in problems)
    ):
        problems.append(
            Problem(
                kind="no_cases",
                case_id=None,
                file=str(dataset.root),
                what="there are no training cases here.",
                fix="Put images and labels of equal names into its folders.",
            )
        )
    return replace(dataset, cases=kept, test_cases=tests)


def _is_too_long(name: str) -> bool:
    return len(os.fsencode(name)) > LONGEST_NAME_BYTES


LAYOUTS: dict[str, Layout] = {
    "manifest": Layout(
        is_manifest,
        read_manifest,
        "manifest: a CSV or JSON file (or a folder with manifest.csv or manifest.json) of case, "
        "label, patient, group, and one column for each channel",
    ),
    "msd": Layout(
        is_msd,
        read_msd,
        "Medical Segmentation Decathlon: dataset.json with modality, labels and a training list",
    ),
    "nnunet_raw": Layout(
        is_nnunet_raw,
        read_nnunet_raw,
        "nnU-Net raw: dataset.json with channel_names, labels and file_ending; "
        "imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz",
    ),
    "nndetection": Layout(
        is_nndetection,
        read_nndetection,
        "nnDetection: dataset.json with labels and modalities; raw_splitted/imagesTr/"
        "<case>_0000.nii.gz, labelsTr/<case>.nii.gz of numbered objects and <case>.json of classes",
    ),
    "plain": Layout(
        is_plain,
        read_plain,
        "plain: images/<case>.<ending> and labels/<case>.<ending> with equal names; several "
        "channels as images/<case>_0000.<ending>, _0001, …; instances/<case>.<ending> may number "
        "the objects of labels",
    ),
    "instances": Layout(
        is_instances,
        read_instances,
        "instances: as plain, with instances/ in place of labels/, where objects are numbered",
    ),
    "coco": Layout(
        is_coco,
        read_coco,
        "COCO: a .json file in annotations/ or beside 2D images, which lists images, categories "
        "and annotations (polygons or runs)",
    ),
    "bids": Layout(
        is_bids,
        read_bids,
        "BIDS: sub-*/[ses-*/]anat/*_T1w.nii.gz and so on, with labels in derivatives/*/",
    ),
    "dicom": Layout(
        is_dicom_folder,
        read_dicom_folder,
        "DICOM: any folders of series, and SEG or RTSTRUCT files that refer to them",
    ),
}
