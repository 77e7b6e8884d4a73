"""pydicom, used without what it tells: that may be a person's name or day of birth."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def telling_nothing() -> Iterator[None]:
    """Keep what pydicom says of values that are not valid from the log and the terminal."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_dataset(source: Any, **options: Any) -> Any:
    """What pydicom reads of a file, as `pydicom.dcmread` does."""
    import pydicom

    with telling_nothing():
        return pydicom.dcmread(source, **options)
