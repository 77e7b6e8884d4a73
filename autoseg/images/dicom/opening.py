"""pydicom, opened without what it tells the log: that may be a person's name or day of birth."""

import logging
import warnings
from typing import Any


def open_dataset(source: Any, **options: Any) -> Any:
    """What pydicom reads of a file, as `pydicom.dcmread` does."""
    import pydicom

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(source, **options)
