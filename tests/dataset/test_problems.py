import pytest

from autoseg.dataset.problems import ERRORS_SHOWN, Problem, raise_errors
from autoseg.errors import AutosegError


def a_problem(kind: str, case_id: str | None = "case_1") -> Problem:
    return Problem(kind=kind, case_id=case_id, file="a.nii.gz", what="is odd.", fix="Mend it.")


def test_a_message_says_whose_where_what_and_how_to_mend_it() -> None:
    assert a_problem("unreadable").message() == "case_1: a.nii.gz: is odd. Mend it."
    assert a_problem("unreadable", None).message() == "a.nii.gz: is odd. Mend it."


def test_warnings_and_notes_stop_nothing() -> None:
    raise_errors([a_problem("duplicate"), a_problem("left_right")], "headline")
    with pytest.raises(AutosegError, match=r"^case_1: a\.nii\.gz: is odd\. Mend it\.$"):
        raise_errors([a_problem("duplicate"), a_problem("unreadable")], "headline")


def test_very_many_errors_are_cut_short_and_counted() -> None:
    problems = [a_problem("unreadable", f"case_{i}") for i in range(ERRORS_SHOWN + 5)]
    with pytest.raises(AutosegError, match="25 errors; `autoseg check` lists them all") as raised:
        raise_errors(problems, "headline")
    assert str(raised.value).count("Mend it.") == ERRORS_SHOWN
