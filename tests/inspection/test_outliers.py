import re
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.problems import Problem
from autoseg.geometry import Box, Shape3, Spacing3
from autoseg.inspection.case import Inspection
from autoseg.inspection.outliers import outliers
from autoseg.inspection.statistics import CLASS_SKETCH_SIZE, CaseStats, IntensityStats, Samples


def inspection(
    scale: float = 1.0,
    spacing_mm: Spacing3 = (3, 1, 1),
    shape_vox: Shape3 = (20, 60, 60),
    offset: float = 0.0,
    wildest: float = 900.0,
) -> Inspection:
    """A scan of values up to 800 whose foreground is about 400; times `scale`, and so on."""
    intensity = IntensityStats(
        mean=400 * scale + offset,
        std=80 * scale,
        min=100 * scale,
        max=700 * scale,
        percentile_00_5=120 * scale,
        median=400 * scale + offset,
        percentile_99_5=650 * scale,
    )
    stats = CaseStats(
        case_id="",
        patient_id="",
        shape_vox=shape_vox,
        crop=Box(start=(0, 0, 0), stop=shape_vox),
        spacing_mm=spacing_mm,
        axis_codes="SAR",
        label_voxels={0: 10, 1: 1},
        intensity=(intensity,),
        intensity_with_ignore=None,
        pixel_hash="",
        ranges=((0.0, wildest * scale),),
    )
    sketch = np.linspace(0, 800 * scale, CLASS_SKETCH_SIZE, dtype=np.float32)[None, None]
    values, volumes = np.zeros(1, np.int64), np.zeros(0)
    samples = Samples(sketch[0], sketch[0], values, sketch, values[:0], volumes)
    return Inspection((), stats, samples)


def found(*strange: Inspection, usual: int = 12) -> list[Problem]:
    """What is told of strange scans among usual ones, which have the names from case_0 on."""
    scans = [*strange, *(inspection(scale=1 + 0.2 * i) for i in range(usual))]
    cases = [
        Case(f"case_{i}", (ChannelSource(Path(f"{i}.nii.gz")),), None, f"case_{i}")
        for i in range(len(scans))
    ]
    return list(outliers(cases, {c.case_id: s for c, s in zip(cases, scans, strict=True)}))


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (inspection(spacing_mm=(3000, 1000, 1000)), "is 1000 mm, that of the others 1 to 1"),
        (inspection(spacing_mm=(0.003, 0.001, 0.001)), "finest spacing is 0.001 mm"),
        (inspection(spacing_mm=(90, 1, 1)), "coarsest spacing is 90 mm"),
        (inspection(shape_vox=(20, 60, 3000)), "longest edge has 3000 voxels"),
        (inspection(scale=1e3), r"its values reach 7\.92e\+05"),
        (inspection(scale=1e-3), r"its values reach 0\.792"),
        (inspection(offset=-1e6), r"median of its foreground is -9\.996e\+05"),
        (inspection(wildest=3e38), r"holds a value of 3e\+38"),
        (inspection(wildest=-3e38), r"holds a value of -3e\+38"),
    ],
)
def test_a_scan_unlike_all_others_is_named_with_its_value_and_theirs(
    strange: Inspection, told: str
) -> None:
    (problem,) = found(strange)
    assert (problem.case_id, problem.file) == ("case_0", "0.nii.gz")
    assert problem.severity == "warning" and problem.fix
    assert re.search(told, problem.what)


def test_scans_that_differ_as_protocols_do_are_alike() -> None:
    fine = inspection(spacing_mm=(0.5, 0.3, 0.3), shape_vox=(300, 512, 512), scale=20)
    thick = inspection(spacing_mm=(8, 0.4, 0.4), shape_vox=(12, 512, 512), scale=0.1)
    assert found(fine, thick) == []


def test_a_group_of_another_scale_is_no_mistake() -> None:
    assert found(*[inspection(scale=1e3)] * 3, usual=30) == []


def test_single_slices_have_no_spacing_across() -> None:
    assert found(inspection(spacing_mm=(999, 1, 1), shape_vox=(1, 60, 60))) == []


def test_of_two_scans_only_a_wild_voxel_is_told() -> None:
    assert found(inspection(spacing_mm=(3000, 1000, 1000)), usual=1) == []
    assert len(found(inspection(wildest=3e38), usual=1)) == 1
