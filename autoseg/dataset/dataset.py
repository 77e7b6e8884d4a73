"""Datasets: which scans there are, and where their files lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.dataset.labels import LabelScheme

LayoutName = Literal[
    "nnunet_raw", "msd", "plain", "instances", "manifest", "nndetection", "coco", "bids", "dicom"
]


@dataclass(frozen=True, slots=True)
class ChannelSource:
    """Where a channel is: a file, and which component of it; None takes all that it holds."""

    path: Path
    component: int | None = 0


@dataclass(frozen=True, slots=True)
class Case:
    """Where one scan's files are; holds no pixels.

    `objects` numbers the objects of the label map, where another file does; `object_classes` tells
    the class of each number, where the label is itself such a file. Files `in_one_space` are
    registered and may lie on grids of their own: reading puts them on the first one's.
    """

    case_id: str
    channels: tuple[ChannelSource, ...]
    label: Path | None
    patient_id: str
    objects: Path | None = None
    object_classes: Path | None = None
    in_one_space: bool = False

    def files(self) -> tuple[Path, ...]:
        """Its image files, each once, in the order of the channels."""
        return tuple(dict.fromkeys(source.path for source in self.channels))

    def label_files(self) -> tuple[Path, ...]:
        """Its label, and what tells of its objects."""
        return tuple(
            path for path in (self.label, self.objects, self.object_classes) if path is not None
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training cases with their channel names and label scheme.

    `labels` is None where the dataset does not declare them: then every value found is a class.
    `test_cases` are scans that come with the dataset and are never trained on. `folds` are the
    dataset's own, each the case ids to train on and those held out; empty when it brings none.
    """

    root: Path
    layout: LayoutName
    channel_names: tuple[str, ...]
    labels: LabelScheme | None
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
