import pytest

from autoseg.errors import AutosegError, raise_if_any


def test_nothing_wrong_raises_nothing_and_one_thing_itself() -> None:
    raise_if_any([], "headline")
    with pytest.raises(AutosegError, match=r"^a: is odd\.$"):
        raise_if_any(["a: is odd."], "headline")


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(AutosegError, match=r"^headline \(2 problems\)\n  - a\n  - b$"):
        raise_if_any(["a", "b"], "headline")
