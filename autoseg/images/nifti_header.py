"""What a NIfTI header says of where voxels lie, and what in it cannot be."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from autoseg.geometry import Grid, same_space
from autoseg.images.raw import Oddity

Unit = Literal["mm", "m", "um", "unknown"]

UNITS: dict[int, Unit] = {1: "m", 2: "mm", 3: "um"}  # NIfTI's codes
MM_PER_UNIT: dict[Unit, float] = {"mm": 1.0, "m": 1000.0, "um": 0.001, "unknown": 1.0}
QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
TRANSFORMS = ("qform", "sform")
LAST_CODE = 5  # of those that say what space a transform leads to
ROUNDING = 1e-3  # how far the squares of a quaternion may add up beyond 1


@dataclass(frozen=True, slots=True)
class StatedPlace:
    """Where a header puts voxels: RAS mm of file indices, and what is odd about that.

    Without `is_stated` it does not say so, and the affine is a guess.
    """

    affine_ras_mm: NDArray[np.float64]
    is_stated: bool
    oddities: tuple[Oddity, ...]


def stated_place(header: Any) -> StatedPlace:
    """The sform if there is one, else the qform, else sizes alone, as nibabel chooses.

    Numbers that cannot be are put right as the format's own library does: signs of sizes are left
    out, and a quaternion longer than 1 is a turn by 180 degrees. A header in metres or microns
    gives an affine in mm, as in ITK. Raises HeaderDataError when no number helps.
    """
    sound, oddities = _sound(header)
    affine = np.array(sound.get_best_affine(), dtype=np.float64)
    unit = stated_unit(header)
    affine[:3] *= MM_PER_UNIT[unit]
    if unit in ("m", "um"):
        spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
        what = f"states its spacing in {'metres' if unit == 'm' else 'microns'}; it is read as "
        what += f"{'x'.join(f'{mm:.4g}' for mm in spacing_mm)} mm."
        fix = "If that is wrong, correct xyzt_units in the header; --fix writes it in mm."
        oddities.append(Oddity("unit", what, fix))
    if transforms_disagree(header):
        what = "its qform and sform place it differently; the sform is used."
        fix = "Correct the wrong one, or set its code to 0."
        oddities.append(Oddity("transforms_disagree", what, fix))
    is_stated = any(int(sound[f"{name}_code"]) > 0 for name in TRANSFORMS)
    if not is_stated:
        what = "states no orientation (the codes of its qform and sform are 0); higher x is taken "
        what += "for left, as nibabel does."
        oddities.append(Oddity("no_orientation", what, "Save it with an sform or a qform."))
    return StatedPlace(affine, is_stated, tuple(oddities))


def stated_unit(header: Any) -> Unit:
    """The unit of length that a NIfTI header states; unknown ones are taken for mm."""
    return UNITS.get(int(header["xyzt_units"]) & 0b111, "unknown")


def transforms_disagree(header: Any, tolerance_mm: float = 0.1) -> bool:
    """Whether a NIfTI header's qform and sform, both given, put a corner in different places.

    Readers choose differently between them: nibabel, and so autoseg, takes the sform; ITK takes it
    when it is orthonormal; others take the qform.
    """
    sound, _ = _sound(header)
    if not all(int(sound[f"{name}_code"]) > 0 for name in TRANSFORMS):
        return False
    try:
        qform = sound.get_qform()
    except (HeaderDataError, ValueError):  # its numbers are no rotation
        return True
    x, y, z = (*header.get_data_shape(), 1, 1, 1)[:3]
    in_mm = np.diag([MM_PER_UNIT[stated_unit(header)]] * 3 + [1.0])
    placed = [Grid((z, y, x), in_mm @ affine) for affine in (qform, sound.get_sform())]
    return not same_space(placed[0], placed[1], tolerance_mm)


def _sound(header: Any) -> tuple[Any, list[Oddity]]:
    """A copy of a header whose geometry nibabel takes, and what had to be put right for that."""
    sound, oddities = header.copy(), list[Oddity]()
    for name in TRANSFORMS:
        code = int(header[f"{name}_code"])
        if not 0 <= code <= LAST_CODE:
            sound[f"{name}_code"] = max(code, 0)
            taken = "it counts" if code > 0 else "it does not count"
            what = f"its {name}_code is {code}, which means nothing; {taken}."
            oddities.append(Oddity("header", what, f"Set it to 0 to {LAST_CODE}."))
    sform = np.array([header[f"srow_{axis}"] for axis in "xyz"], np.float64)
    whole = np.isfinite(sform).all() and np.linalg.det(sform[:, :3]) != 0
    if int(sound["sform_code"]) > 0 and not whole and int(sound["qform_code"]) > 0:
        sound["sform_code"] = 0
        what = "its sform puts all voxels into one plane or nowhere; its qform is used."
        oddities.append(Oddity("header", what, "Correct its sform, or set sform_code to 0."))
    sizes = np.array(header["pixdim"][1:4])
    if (sizes < 0).any():
        sound["pixdim"][1:4] = abs(sizes)
        what = f"states the voxel size {'x'.join(f'{size:.4g}' for size in sizes)}; signs are left "
        what += "out here, while other readers may turn the scan."
        oddities.append(Oddity("header", what, "Save it with positive sizes (pixdim)."))
    for axis in range(int(header["dim"][0]), 3):  # axes that a picture does not have
        sound["pixdim"][1 + axis] = abs(sizes[axis]) or 1
    sound["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    squares = sum(float(header[name]) ** 2 for name in QUATERNION)
    if squares > 1:
        for name in QUATERNION:
            sound[name] = float(header[name]) / np.sqrt(squares)
    if squares > 1 + ROUNDING and int(sound["qform_code"]) > 0:
        what = f"its quaternion is no rotation (its squares add up to {squares:.4g}); it is taken "
        what += "for a turn by 180 degrees."
        oddities.append(Oddity("header", what, "Correct its qform, or set qform_code to 0."))
    return sound, oddities
