"""Where the slices of a reconstructed nuclear medicine volume lie (PS3.3 C.8.4.8 to C.8.4.15).

Its frames have no functional groups: vectors say of each frame which slice, time slot and energy
window it is, and only the first slice's place is stated.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

RECONSTRUCTED = ("RECON TOMO", "RECON GATED TOMO")
VECTORS = (
    *("EnergyWindowVector", "DetectorVector", "PhaseVector", "RotationVector"),
    *("RRIntervalVector", "TimeSlotVector", "TimeSliceVector"),
)


def is_reconstructed(header: Any) -> bool:
    """Whether frames are slices by their vector, and the first one's place is stated."""
    kind = list(header.get("ImageType") or ())
    if len(kind) < 3 or kind[2] not in RECONSTRUCTED or not header.get("SliceVector"):
        return False
    detectors = header.get("DetectorInformationSequence")
    named = ("ImagePositionPatient", "ImageOrientationPatient")
    stated = detectors and all(detectors[0].get(name) for name in named)
    return bool(stated and (header.get("SpacingBetweenSlices") or header.get("SliceThickness")))


def frame_places(header: Any) -> Iterator[Any]:
    """For each frame a data set of its position, its direction, and what its other vectors say.

    Slices are stacked along the normal of the first, or against it where SpacingBetweenSlices is
    negative (C.8.4.15).
    """
    from pydicom.dataset import Dataset

    first = header.DetectorInformationSequence[0]
    orientation = [float(c) for c in first.ImageOrientationPatient]
    step_mm = float(header.get("SpacingBetweenSlices") or header.SliceThickness)
    step = np.cross(orientation[:3], orientation[3:]) * step_mm
    vectors = {name: header.get(name) for name in VECTORS}
    for index, number in enumerate(np.atleast_1d(header.SliceVector)):
        place = Dataset()
        place.ImageOrientationPatient = orientation
        position = np.array(first.ImagePositionPatient, np.float64) + (int(number) - 1) * step
        place.ImagePositionPatient = position.round(6).tolist()
        for name, vector in vectors.items():
            if vector:
                setattr(place, name, [int(np.atleast_1d(vector)[index])])
        yield place
