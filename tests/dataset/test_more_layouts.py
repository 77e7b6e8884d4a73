"""What dataset.json, the Decathlon, tables and numbered objects can say beyond the ordinary.

Covers: layouts.description, layouts.manifest, layouts.msd.
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.labels import Region
from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import make_fingerprint


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array), np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(8, 9, 10)).astype(np.float32)


def mask(*values: int) -> np.ndarray:
    return np.resize(np.array([0, *values], np.uint8), (8, 9, 10))


def describe(folder: Path, **content: Any) -> None:
    base = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "dataset.json").write_text(json.dumps(base | {"file_ending": ".nii.gz"} | content))


def nnunet_case(folder: Path, case: str, *values: int) -> None:
    save(folder / "imagesTr" / f"{case}_0000.nii.gz", scan())
    save(folder / "labelsTr" / f"{case}.nii.gz", mask(*values))


def test_regions_keep_the_order_of_their_keys(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    describe(tmp_path, labels=labels, regions_class_order=[1, 2, 3])
    nnunet_case(tmp_path, "a", 1, 2, 3, 4)
    scheme = open_dataset(tmp_path).labels
    assert scheme is not None
    assert scheme.values == (0, 1, 2, 3)
    assert scheme.names == ("background", "label_1", "label_2", "enhancing")
    assert scheme.regions[:2] == (
        Region(name="whole", values=(1, 2, 3)),
        Region(name="core", values=(2, 3)),
    )
    assert (scheme.region_order, scheme.ignore, scheme.declared_count) == ((1, 2, 3), 4, 5)
    assert scheme.region_classes() == ((1, 2, 3), (2, 3), (3,))


def test_the_older_name_for_channels_is_understood(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    description = {"modality": {"0": "MR"}, "labels": {"background": 0, "a": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    nnunet_case(tmp_path, "a", 1)
    assert open_dataset(tmp_path).channel_names == ("MR",)


def test_the_dataset_mapping_says_where_files_lie(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    save(tmp_path / "elsewhere" / "x.nii.gz", scan())
    save(tmp_path / "elsewhere" / "y.nii.gz", mask(1))
    files = {"images": ["../elsewhere/x.nii.gz"], "label": "../elsewhere/y.nii.gz"}
    describe(folder, dataset={"one": files})
    dataset = open_dataset(folder)
    assert dataset.cases[0].case_id == "one"
    assert read_case(dataset.cases[0])[0].array.shape == (1, 10, 9, 8)


def test_folds_of_mapped_cases_may_be_in_another_unicode_form(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    save(tmp_path / "x.nii.gz", scan())
    save(tmp_path / "y.nii.gz", mask(1))
    files = {"images": ["x.nii.gz"], "label": "y.nii.gz"}
    describe(tmp_path, dataset={apart: files, "b": files})
    for spelt in (composed, apart):
        folds = json.dumps([{"train": ["b"], "val": [spelt]}])
        (tmp_path / "splits_final.json").write_text(folds)
        assert open_dataset(tmp_path).folds == ((("b",), (composed,)),)


def test_folds_that_come_along_are_kept(tmp_path: Path) -> None:
    describe(tmp_path)
    for case in "abc":
        nnunet_case(tmp_path, case, 1)
    folds = [{"train": ["a", "b"], "val": ["c"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert open_dataset(tmp_path).folds == ((("a", "b"), ("c",)),)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["z"], "val": []}]))
    with pytest.raises(AutosegError, match="z is in its folds, but not in the dataset"):
        open_dataset(tmp_path)


def test_scans_for_testing_and_labels_of_another_format_are_found(tmp_path: Path) -> None:
    describe(tmp_path)
    nnunet_case(tmp_path, "a", 1)
    save(tmp_path / "imagesTs" / "t_0000.nii.gz", scan())
    (tmp_path / "labelsTr" / "a.nii.gz").unlink()
    save(tmp_path / "labelsTr" / "a.nii", mask(1))
    dataset = open_dataset(tmp_path)
    assert [case.case_id for case in dataset.test_cases] == ["t"]
    assert dataset.cases[0].label == tmp_path / "labelsTr" / "a.nii"


def test_one_file_may_hold_all_channels(tmp_path: Path) -> None:
    describe(tmp_path, channel_names={"0": "T1", "1": "T2"})
    save(tmp_path / "imagesTr" / "a_0000.nii.gz", np.stack([scan(0), scan(1)], axis=-1))
    save(tmp_path / "labelsTr" / "a.nii.gz", mask(1))
    assert read_case(open_dataset(tmp_path).cases[0])[0].array.shape == (2, 10, 9, 8)


def test_labels_without_images_are_named(tmp_path: Path) -> None:
    describe(tmp_path)
    nnunet_case(tmp_path, "a", 1)
    save(tmp_path / "labelsTr" / "b.nii.gz", mask(1))
    _, problems = survey_dataset(tmp_path)
    assert [(p.kind, p.severity) for p in problems] == [("unused_file", "warning")]


def test_lists_of_the_first_nnunet_are_read_with_its_channel_files(tmp_path: Path) -> None:
    nnunet_case(tmp_path, "a", 1)
    description = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = open_dataset(tmp_path)
    assert dataset.cases[0].files()[0].name == "a_0000.nii.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "same name: background, a, a"),
        ({"labels": {"0": "background", "b": 1}}, "label '0' has value 'background'"),
        ({"training": ["a.nii.gz", 3]}, "the entry 3 should be"),
        ({"training": {"image": "a"}}, "training must be a list"),
        ({"training": [{"image": "./a.nii.gz", "label": "./b.nii.gz"}]}, "listed, but does not"),
    ],
)
def test_decathlon_descriptions_with_mistakes_say_which(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    labels = {"0": "background", "1": "liver"}
    content = {"modality": {"0": "CT"}, "labels": labels, "training": []} | change
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(AutosegError, match=message):
        open_dataset(tmp_path)


def write_table(folder: Path, rows: list[str]) -> Path:
    for name in ("ct_a", "pet_a", "ct_b", "pet_b"):
        save(folder / "scans" / f"{name}.nii.gz", scan())
    for name in ("a", "b"):
        save(folder / "scans" / f"mask_{name}.nii.gz", mask(1, 7))
    table = folder / "table.csv"
    table.write_text("\n".join(["case;patient;group;CT;PET;label", *rows]))
    return table


ROW_A = "a;p1;;scans/ct_a.nii.gz;scans/pet_a.nii.gz;scans/mask_a.nii.gz"
ROW_B = "b;p2;test;scans/ct_b.nii.gz;scans/pet_b.nii.gz;"


def test_a_table_names_channels_patients_and_test_scans(tmp_path: Path) -> None:
    dataset = open_dataset(write_table(tmp_path, [ROW_A, ROW_B]))
    assert (dataset.layout, dataset.channel_names) == ("manifest", ("CT", "PET"))
    assert (dataset.cases[0].case_id, dataset.cases[0].patient_id) == ("a", "p1")
    assert [case.case_id for case in dataset.test_cases] == ["b"]
    assert dataset.labels is None
    assert make_fingerprint(dataset, workers=1).labels.values == (0, 1, 7)


def test_a_table_may_be_json_with_labels(tmp_path: Path) -> None:
    write_table(tmp_path, [])
    case = {"case": "a", "channels": {"CT": "scans/ct_a.nii.gz"}, "label": "scans/mask_a.nii.gz"}
    content = {"labels": {"background": 0, "organ": 1, "lesion": 7}, "cases": [case]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.names == ("background", "organ", "lesion")


def test_a_table_may_leave_things_out(tmp_path: Path) -> None:
    write_table(tmp_path, [])
    files = {"channels": {"CT": "scans/ct_a.nii.gz"}, "label": "scans/mask_a.nii.gz"}
    cases = [{"case": name, "patient": None, **files} for name in "ab"]
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": cases}))
    assert [case.patient_id for case in open_dataset(tmp_path).cases] == ["a", "b"]
    cases[0]["pateint"] = "p"
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": cases}))
    with pytest.raises(AutosegError, match="scan 1: pateint"):
        open_dataset(tmp_path)


def test_tables_of_older_spreadsheets_are_read(tmp_path: Path) -> None:
    table = write_table(tmp_path, [ROW_A.replace("p1", "Jörg")])
    table.write_bytes(table.read_text().encode("cp1252"))
    assert open_dataset(table).cases[0].patient_id == "Jörg"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW_A, ROW_A], "name was used before"),
        ([ROW_A.replace("a;p1", ";p1")], "must hold a name"),
        ([ROW_A.replace(";;", ";site 3;")], "group is 'site 3', but must be train or test"),
        ([ROW_A.replace("scans/mask_a.nii.gz", "")], "has no label"),
        ([ROW_A.replace("scans/pet_a.nii.gz", "")], "channel PET has no file"),
        ([ROW_A.replace("ct_a", "ct_z")], "ct_z.nii.gz: is listed, but does not exist"),
        ([], "the table is empty"),
    ],
)
def test_tables_with_mistakes_say_which(tmp_path: Path, rows: list[str], message: str) -> None:
    table = write_table(tmp_path, rows)
    with pytest.raises(AutosegError, match=message):
        open_dataset(table)


def test_plain_folders_take_the_labels_that_they_hold(tmp_path: Path) -> None:
    for name in ("scan_2021", "scan_2022"):
        save(tmp_path / "images" / f"{name}.nii.gz", scan())
        save(tmp_path / "labels" / f"{name}.nii.gz", mask(4))
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.labels) == ("plain", None)
    assert [case.case_id for case in dataset.cases] == ["scan_2021", "scan_2022"]
    assert make_fingerprint(dataset, workers=1).labels.names == ("background", "label_4")


def test_plain_folders_may_name_their_labels_and_channels(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii.gz", scan())
    save(tmp_path / "labels" / "a.nii.gz", mask(1))
    describe(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None
    assert (dataset.channel_names, dataset.labels.names) == (("CT",), ("background", "liver"))


def test_numbered_objects_become_object_and_border(tmp_path: Path) -> None:
    objects = np.zeros((8, 9, 10), np.uint16)
    objects[2:4, 2:4, 2:4] = 300
    objects[4:6, 2:4, 2:4] = 700  # touches the first
    objects[0, 8, 9] = 5
    save(tmp_path / "images" / "a.nii.gz", scan())
    save(tmp_path / "instances" / "a.nii.gz", objects)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "instances"
    fingerprint = make_fingerprint(dataset, workers=1)
    assert fingerprint.labels.names == ("background", "object", "border")
    assert fingerprint.cases[0].label_voxels == {0: 720 - 17, 1: 9, 2: 8}


def test_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    entries = []
    for site in ("s1", "s2"):
        save(tmp_path / site / "img.nii.gz", scan())
        save(tmp_path / site / "mask.nii.gz", mask(1))
        entries.append({"image": f"{site}/img.nii.gz", "label": f"{site}/mask.nii.gz"})
    labels = {"0": "background", "1": "liver"}
    content = {"modality": {"0": "CT"}, "labels": labels, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(AutosegError, match=r"img: .*has the same name as"):
        open_dataset(tmp_path)


def test_channel_files_must_have_equal_numbers(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0002"):
        save(tmp_path / "images" / f"{name}.nii.gz", scan())
    for name in "ab":
        save(tmp_path / "labels" / f"{name}.nii.gz", mask(1))
    with pytest.raises(AutosegError, match="b: has the channel files _0000, _0002"):
        open_dataset(tmp_path)


def test_folds_that_train_on_what_they_hold_out_are_refused(tmp_path: Path) -> None:
    describe(tmp_path)
    for case in "ab":
        nnunet_case(tmp_path, case, 1)
    folds = [{"train": ["a", "b"], "val": ["b"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(AutosegError, match="b is both trained on and held out"):
        open_dataset(tmp_path)


def test_too_many_values_are_refused_and_not_wrapped(tmp_path: Path) -> None:
    for index in range(8):
        save(tmp_path / "images" / f"{index}.nii.gz", scan())
        values = np.arange(40 * index, 40 * index + 40, dtype=np.int16)
        save(tmp_path / "labels" / f"{index}.nii.gz", np.resize(values, (8, 9, 10)))
    with pytest.raises(AutosegError, match="320 different values, 253 at most"):
        make_fingerprint(open_dataset(tmp_path), workers=1)
