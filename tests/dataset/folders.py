"""Small datasets of every layout and format."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

RNG = np.random.default_rng(0)
PICTURES = (".png", ".bmp", ".tif", ".jpg")
LABELS = {"background": 0, "one": 1}


def write(path: Path, colours: int = 1, label: bool = False) -> None:
    """A small volume, or a picture, in the format that its name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in PICTURES:
        shape = (9, 8) if label or colours == 1 else (9, 8, colours)
        Image.fromarray(RNG.integers(0, 2 if label else 200, shape).astype(np.uint8)).save(path)
        return
    array = RNG.integers(0, 2 if label else 200, (4, 5, 6)).astype(np.uint8)
    lower = path.with_name(path.name.lower())
    if path.suffix.lower() in (".nii", ".gz"):
        nib.save(nib.Nifti1Image(array.T, np.eye(4)), lower)
    elif path.suffix == ".mgz":
        nib.save(nib.MGHImage(array.T, np.eye(4)), lower)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(lower))
    lower.rename(path)


def nnunet(
    folder: Path, ending: str, channels: int = 1, colours: int = 1, declared: str = ""
) -> Path:
    for case in ("a", "b_2019"):
        for channel in range(channels):
            write(folder / "imagesTr" / f"{case}_{channel:04d}{ending}", colours)
        label = ".png" if ending == ".jpg" else ending
        write(folder / "labelsTr" / f"{case}{label}", label=True)
    names = {str(index): f"c{index}" for index in range(max(channels, colours))}
    description = {"channel_names": names, "labels": LABELS, "file_ending": declared or ending}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder / "imagesTr"


def plain(
    folder: Path,
    ending: str,
    cases: tuple[str, ...] = ("a", "b"),
    suffixes: Any = ("",),
    colours: int = 1,
) -> Path:
    for case in cases:
        for suffix in suffixes:
            write(folder / "images" / f"{case}{suffix}{ending}", colours)
        write(folder / "labels" / f"{case}{'.png' if ending == '.jpg' else ending}", label=True)
    return folder / "images"


def instances(folder: Path, ending: str) -> Path:
    """As `plain`, with two objects in each picture."""
    images = plain(folder, ending)
    (folder / "labels").rename(folder / "instances")
    numbers = np.zeros((9, 8), np.uint8)
    numbers[1:4, 1:7], numbers[4:8, 2:6] = 1, 2
    for path in (folder / "instances").iterdir():
        Image.fromarray(numbers).save(path)
    return images


def decathlon(folder: Path, channels: int) -> Path:
    training = []
    for case in ("a", "b"):
        shape = (4, 5, 6, channels)[: 3 + (channels > 1)]
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(RNG.integers(0, 99, shape).astype(np.uint8), np.eye(4))
        nib.save(image, folder / "imagesTr" / f"{case}.nii.gz")
        write(folder / "labelsTr" / f"{case}.nii.gz", label=True)
        label = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
        nib.save(label, folder / "labelsTr" / f"{case}.nii.gz")
        training.append(
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
        )
    modality = {str(index): f"c{index}" for index in range(channels)}
    described = {
        "modality": modality,
        "labels": {"0": "background", "1": "one"},
        "training": training,
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder / "imagesTr"


def table(folder: Path) -> Path:
    rows = ["case,label,MRI"]
    for case in ("a", "b"):
        write(folder / "scans" / f"{case}.nii.gz")
        write(folder / "masks" / f"{case}.nii.gz", label=True)
        rows.append(f"{case},masks/{case}.nii.gz,scans/{case}.nii.gz")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder / "scans"
