"""Covers: layouts.manifest_rows."""

from pathlib import Path

import pytest

from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.errors import AutosegError
from tests.dataset.made_up import touch


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    touch(folder, "scans/a.nii.gz", "scans/m.nii.gz")
    path = folder / "table.csv"
    path.write_text(text.replace("FOLDER", str(folder)), encoding=encoding)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "Case,Label,PATIENT,CT\na,scans/m.nii.gz,p,scans/a.nii.gz\n",
        "\n sep=;\n".lstrip() + "case ; label;patient;CT\na; scans/m.nii.gz ;p;scans/a.nii.gz\n",
        "case,label,patient,CT,\na,scans/m.nii.gz,p,scans/a.nii.gz,\n,,,,\n\n",
        "case\tlabel\tpatient\tCT\na\tscans\\m.nii.gz\tp\tscans\\a.nii.gz\r\n\r\n",
        'case,label,patient,CT\n"a","FOLDER/scans/m.nii.gz",p,FOLDER/scans/a.nii.gz',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_are_read_however_a_spreadsheet_writes_them(
    tmp_path: Path, text: str, encoding: str
) -> None:
    dataset = open_dataset(table(tmp_path, text, encoding))
    (case,) = dataset.cases
    assert (case.case_id, case.patient_id, dataset.channel_names) == ("a", "p", ("CT",))
    assert case.label == tmp_path / "scans" / "m.nii.gz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label,CT\na,m.nii.gz,a.nii.gz", "no column is called case. Its columns are name"),
        ("case,CT,CT,label\na,b.nii.gz,c.nii.gz,m.nii.gz", "2 columns are called 'CT'"),
        ("case,CT,label\na,b.nii.gz,m.nii.gz,x", "scan 1 has 4 fields, but there are 3 columns"),
        ("case,CT,age,label\na,b.nii.gz,63,m.nii.gz", "age holds no names of images, such as '63'"),
    ],
)
def test_columns_that_cannot_be_meant_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AutosegError, match=message):
        open_dataset(table(tmp_path, text))


def test_names_too_long_for_files_stop_their_scan_alone(tmp_path: Path) -> None:
    rows = f"a,scans/a.nii.gz,scans/m.nii.gz\n{'b' * 300},scans/a.nii.gz,scans/m.nii.gz\n"
    rows += f"c,scans/{'c' * 300}.nii.gz,scans/m.nii.gz"
    dataset, problems = survey_dataset(table(tmp_path, f"case,CT,label\n{rows}"))
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert sorted(problem.kind for problem in problems) == ["missing_file", "naming"]
