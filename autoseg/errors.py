"""The one exception that a user is meant to read."""

from collections.abc import Sequence


class AutosegError(Exception):
    """Something that the user can put right; the message says what, where and how."""


class NotFiniteError(AutosegError):
    """A scan holds NaN or infinity."""


class FractionalLabelsError(AutosegError):
    """A label map holds numbers that are not whole."""


class EngineError(AutosegError):
    """An engine cannot run a network; another one may."""


def raise_if_any(problems: Sequence[str], headline: str) -> None:
    """Raise one AutosegError that lists every problem, so that all can be mended at once."""
    if len(problems) == 1:
        raise AutosegError(problems[0])
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise AutosegError(f"{headline} ({len(problems)} problems)\n{listed}")
