"""Scans on a plan's grid, segmented by models without any files of scans."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.device import Device, Precision
from autoseg.inference.maps import Maps, RequestedMaps
from autoseg.inference.models import GridScan
from autoseg.inference.predictor import Predictor
from autoseg.inference.whole_scan import WholeScan
from benchmarks.input_path import as_it_is


def predictor_of(model: Path, device: Device, precision: Precision | None = None) -> Predictor:
    return Predictor.load([model], device.name, precision or device.precision, engine="torch")


def segment(predictor: Predictor, image: NDArray[np.float32]) -> Maps:
    """Classes of an image [channel, z, y, x], and warnings."""
    z, y, x = image.shape[1:]
    scan = GridScan(image, as_it_is((z, y, x)))
    return WholeScan(predictor.groups, [scan], predictor.device, None).segment(RequestedMaps())
