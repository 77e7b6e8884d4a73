"""Datasets of every layout, odd or not, and what is to become of them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.dataset.folders import decathlon, instances, nnunet, plain, table, write
from tests.dataset.test_coco import OTHER, coco
from tests.dataset.test_objects import nndetection
from tests.images.test_coco import SQUARE, annotation
from tests.odd_files import Outcome, Row


def changed(make: Callable[[Path], Path], change: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """A dataset made in a folder, then changed."""

    def made(folder: Path) -> Path:
        make(folder)
        change(folder)
        return folder

    return made


def described(**changes: Any) -> Callable[[Path], None]:
    """A change of a dataset's description."""

    def change(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rename_all(folder: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in sorted((root / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(old, new)))

    return change


def rename_one(folder: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = sorted((root / folder).iterdir())[0]
        path.rename(path.with_name(path.name.replace(old, new)))

    return change


def relabel(make: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A change of every label of a dataset, as nibabel's images."""

    def change(root: Path) -> None:
        for path in (root / "labelsTr").iterdir():
            label = make(nib.load(path))
            nib.save(label, path)

    return change


def moved(label: Any) -> Any:
    return nib.Nifti1Image(np.asarray(label.dataobj), label.affine + np.eye(4)[:, [3, 0, 1, 2]] * 9)


CLASSES = {"3": 0, "7": 1, "300": 1}
INNER = [3, 3, 6, 3, 6, 6, 3, 6]  # within the square


def raw(folder: Path) -> Path:
    return nnunet(folder, ".nii.gz")


def rows_of_layouts() -> Iterator[Row]:
    def row(what: str, make: Callable[[Path], Path], outcome: Outcome) -> Row:
        return Row("nnU-Net", what, lambda folder: make(folder) and folder, outcome)

    yield row("raw: a file for each channel, in any format", raw, "read")
    yield row("all colours in one file", lambda f: nnunet(f, ".png", colours=3), "read")
    other = changed(raw, described(file_ending=".mha"))
    yield row("all images of another ending than declared", other, "warned")
    capitals = changed(raw, rename_all("imagesTr", ".nii.gz", ".NII.GZ"))
    yield row("endings in capitals", capitals, "read")
    one = changed(raw, rename_one("imagesTr", ".nii.gz", ".nii"))
    yield row("one image of another ending", one, "refused")
    bare = changed(raw, rename_all("imagesTr", "_0000", ""))
    yield row("one channel, and no number in the names", bare, "warned")
    numbered = changed(raw, rename_all("labelsTr", ".nii.gz", "_0000.nii.gz"))
    yield row("labels called otherwise than their cases", numbered, "refused")
    lost = changed(raw, rename_one("imagesTr", "a_", "c_"))
    yield row("an image without its label", lost, "refused")
    long = changed(raw, rename_one("labelsTr", "a", "a" * 230))
    long = changed(long, rename_one("imagesTr", "a", "a" * 230))
    yield row("a name too long for masks", long, "refused")
    inverted = described(labels={"0": "background", "1": "one"})
    yield row("labels the other way round", changed(raw, inverted), "warned")
    yield row("numbers as text", changed(raw, described(labels={"b": "0", "one": "1"})), "warned")
    yield row("numTraining of another number", changed(raw, described(numTraining=9)), "warned")
    undeclared = described(labels={"background": 0, "one": 2})
    yield row("labels that are not declared", changed(raw, undeclared), "refused")
    regions = {"background": 0, "part": 1, "whole": [1, 2]}
    lossy = described(labels=regions, regions_class_order=[1, 2])
    yield row("an order by which a region erases another", changed(raw, lossy), "refused")

    def broken(folder: Path) -> None:
        (folder / "dataset.json").write_text('{"labels": {"background": 0,}}')

    def marked(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(path.read_text(), encoding="utf-8-sig")

    def without(folder: Path) -> None:
        (folder / "dataset.json").unlink()

    def empty_folds(folder: Path) -> None:
        (folder / "splits_final.json").write_text('[{"train": [], "val": ["a", "b_2019"]}]')

    yield row("a dataset.json that is no JSON", changed(raw, broken), "refused")
    yield row("a byte order mark", changed(raw, marked), "read")
    yield row("no dataset.json: one is proposed", changed(raw, without), "refused")
    yield row("folds that train on nothing", changed(raw, empty_folds), "refused")
    turned = relabel(lambda label: label.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]])))
    yield row("labels in another order of axes: turned", changed(raw, turned), "warned")
    unplaced = relabel(lambda label: nib.Nifti1Image(np.asarray(label.dataobj), None))
    yield row("labels without a place: as their scans", changed(raw, unplaced), "warned")
    yield row("labels that lie elsewhere", changed(raw, relabel(moved)), "refused")


def rows_of_other_layouts() -> Iterator[Row]:
    def row(room: str, what: str, make: Callable[[Path], Path], outcome: Outcome) -> Row:
        return Row(room, what, lambda folder: make(folder) and folder, outcome)

    def plain_volumes(folder: Path) -> Path:
        return plain(folder, ".nrrd")

    yield row("plain", "images/ and labels/ of equal names", plain_volumes, "read")
    slicer = changed(plain_volumes, rename_all("labels", ".nrrd", ".seg.nrrd"))
    yield row("plain", "labels that end in .seg.nrrd", slicer, "read")
    numbered = ("p_0000", "p_0001")
    yield row("plain", "scans numbered _0000", lambda f: plain(f, ".png", numbered), "read")
    missing = changed(plain_volumes, lambda folder: (folder / "labels" / "a.nrrd").unlink())
    yield row("plain", "a scan without its label", missing, "refused")
    twins = changed(plain_volumes, lambda folder: write(folder / "images" / "a.mha"))
    yield row("plain", "two files of one name", twins, "refused")
    lossy = changed(lambda f: plain(f, ".png"), rename_all("labels", ".png", ".jpg"))
    yield row("plain", "labels saved as JPEG", lossy, "refused")
    yield row("instances", "as plain, objects numbered", lambda f: instances(f, ".png"), "read")
    yield row("Decathlon", "dataset.json that lists files", lambda f: decathlon(f, 2), "read")
    yield row("table", "manifest.csv or .json", table, "read")

    def spreadsheet(folder: Path) -> None:
        path = folder / "manifest.csv"
        text = path.read_text().replace(",", ";").replace("case;label", "Case; Label ")
        path.write_text(text + "\n;;\n", encoding="utf-8-sig")

    yield row("table", "as spreadsheets write it", changed(table, spreadsheet), "read")
    gone = changed(table, lambda folder: (folder / "scans" / "a.nii.gz").unlink())
    yield row("table", "a file that is not there", gone, "refused")


def rows_of_object_layouts() -> Iterator[Row]:
    """nnDetection's, and COCO's: a square and what touches it, of two categories."""
    first, second = annotation(1, [SQUARE], category=7), annotation(2, [OTHER], category=3)
    runs = {"counts": [18 * 16 + 2, 6, 18 * 8 - 8], "size": [18, 24]}

    def detection(what: str, classes: dict[str, Any], outcome: Outcome) -> Row:
        return Row("nnDetection", what, lambda folder: nndetection(folder, classes), outcome)

    def row(what: str, outcome: Outcome, *more: dict[str, Any], **parts: Any) -> Row:
        def make(folder: Path) -> Path:
            coco(folder, first, second, *more, **parts)
            return folder

        return Row("COCO", what, make, outcome)

    yield detection("numbered objects, and a file of their classes", CLASSES, "read")
    yield detection("an object of which no class is told", {"3": 0}, "refused")
    yield row("polygons", "read")
    yield row("runs, compressed or not", "read", annotation(3, runs))
    yield row("a crowd: not annotated", "read", annotation(3, runs, iscrowd=1))
    yield row("objects that overlap: the smaller one counts", "warned", annotation(3, [INNER]))
    beyond = annotation(3, [[20, 2, 40, 2, 40, 8, 20, 8]])
    yield row("a polygon that reaches out of the image: cut off", "warned", beyond)
    yield row("an object without a pixel: left out", "warned", annotation(3, []))
    lost = annotation(3, [SQUARE]) | {"image_id": 9}
    yield row("an annotation of an image that is not listed", "warned", lost)
    yield row("an annotation of a category that is not listed", "refused", annotation(3, [], 9))
    other = annotation(3, {"counts": [20], "size": [4, 5]})
    yield row("a mask of another size than its image", "refused", other)
    listed = [{"id": n, "file_name": f"{n}.png", "height": 18, "width": 24} for n in (42, 43)]
    yield row("an image that is not there", "refused", images=listed)
