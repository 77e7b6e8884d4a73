import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from autoseg.geometry import Shape3, Spacing3
from autoseg.postprocessing import touching
from autoseg.postprocessing.touching import NeckRule, take_apart

RULE = NeckRule()
Mask = NDArray[np.bool_]


def ellipsoid(
    shape: Shape3,
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
    spacing_mm: Spacing3 = (1, 1, 1),
) -> Mask:
    z, y, x = (np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    grid = np.meshgrid(z, y, x, indexing="ij")
    parts = zip(grid, centre_mm, radii_mm, strict=True)
    inside: Mask = np.asarray(sum(((g - c) / r) ** 2 for g, c, r in parts) < 1)
    return inside


def two_balls(spacing_mm: Spacing3, direction: tuple[float, float, float]) -> tuple[Mask, Mask]:
    """Balls of 10 mm whose centres are 16 mm apart, and the half-space of the first."""
    unit = np.array(direction) / np.linalg.norm(direction)
    middle = np.array([25.3, 25.2, 25.1])
    shape = tuple(round(50 / mm) for mm in spacing_mm)
    balls = [
        ellipsoid(shape, tuple(middle + side * 8 * unit), (10, 10, 10), spacing_mm)  # type: ignore[arg-type]
        for side in (-1, 1)
    ]
    along = sum(
        (np.arange(n) * mm - m).reshape([-1 if a == axis else 1 for a in range(3)]) * u
        for axis, (n, mm, m, u) in enumerate(zip(shape, spacing_mm, middle, unit, strict=True))
    )
    return balls[0] | balls[1], np.asarray(along)


def tube(points_mm: NDArray[np.float64], radius_mm: float, spacing_mm: Spacing3) -> Mask:
    """Everything within a radius of a curve, in 60 mm on a side."""
    shape = tuple(round(60 / mm) for mm in spacing_mm)
    curve = np.ones(tuple(round(60 / 0.5) for _ in range(3)), bool)
    curve[tuple(np.rint(points_mm.T / 0.5).astype(int))] = False
    distance_mm = ndimage.distance_transform_edt(curve, sampling=0.5)
    steps = [round(mm / 0.5) for mm in spacing_mm]
    inside: Mask = distance_mm[tuple(slice(None, None, step) for step in steps)] < radius_mm
    assert inside.shape == shape
    return inside


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (2.5, 1, 1), (1, 0.5, 2)])
@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 2, 3), (0, 1, 3)])
def test_touching_balls_are_cut_within_a_voxel_of_the_neck(
    spacing_mm: Spacing3, direction: tuple[float, float, float]
) -> None:
    mask, along_mm = two_balls(spacing_mm, direction)
    parts = take_apart(mask, spacing_mm, RULE)
    assert parts is not None
    assert set(np.unique(parts)) == {0, 1, 2}
    first = parts[mask & (along_mm < -5)][0]
    wrong = mask & ((parts == first) != (along_mm < 0))
    assert abs(along_mm[wrong]).max(initial=0) <= max(spacing_mm)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (5, 1, 1), (0.5, 2, 1)])
@pytest.mark.parametrize("radii_mm", [(20, 20, 20), (8, 8, 28), (28, 6, 6), (6, 20, 28)])
def test_one_ellipsoid_stays_whole(spacing_mm: Spacing3, radii_mm: Spacing3) -> None:
    z, y, x = (round(60 / mm) for mm in spacing_mm)
    mask = ellipsoid((z, y, x), (30, 30, 30), radii_mm, spacing_mm)
    assert take_apart(mask, spacing_mm, RULE) is None


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (5, 1, 1), (1, 3, 1)])
@pytest.mark.parametrize("radius_mm", [3.2, 6.5])
@pytest.mark.parametrize("slant", [0, 0.5, 1, 3])
def test_a_long_tube_stays_whole(spacing_mm: Spacing3, radius_mm: float, slant: float) -> None:
    way = np.linspace(-1, 1, 500)[:, None] * np.array([1, slant, 0.3])
    points = 30 + 20 * way / abs(way).max()
    assert take_apart(tube(points, radius_mm, spacing_mm), spacing_mm, RULE) is None


def test_a_bent_tube_stays_whole() -> None:
    angle = np.linspace(0, 1.5 * np.pi, 800)
    points = np.stack((30 + 0 * angle, 30 + 20 * np.sin(angle), 30 + 20 * np.cos(angle)), axis=1)
    assert take_apart(tube(points, 4.5, (1, 1, 1)), (1, 1, 1), RULE) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [1, 50])
def test_a_noisy_ball_stays_whole(seed: int, depth: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(depth, 50, 50)), 1)
    z, y, x = np.ogrid[:depth, :50, :50]
    radius = np.sqrt((z - depth // 2) ** 2 + (y - 25) ** 2 + (x - 25) ** 2)
    rough = ndimage.label(radius + 1.5 * noise / noise.std() < 18)[0]
    mask = rough == rough[depth // 2, 25, 25]
    assert take_apart(mask, (1, 1, 1), RULE) is None


def test_parts_agree_with_the_watershed_of_scikit_image() -> None:
    rng = np.random.default_rng(3)
    centres = rng.uniform(12, 48, (6, 3))
    balls = [ellipsoid((60, 60, 60), (z, y, x), (9, 9, 9)) for z, y, x in centres]
    numbered = ndimage.label(np.any(balls, axis=0), np.ones((3, 3, 3)))[0]
    mask = numbered == np.bincount(numbered[numbered > 0]).argmax()
    parts = take_apart(mask, (1, 1, 1), RULE)
    assert parts is not None
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 0.5)
    seeds = [np.where(parts == p, distance, 0).argmax() for p in range(1, parts.max() + 1)]
    markers = np.zeros(mask.shape, int)
    markers.flat[seeds] = np.arange(1, len(seeds) + 1)
    expected = watershed(-distance, markers, mask=mask, connectivity=3)
    assert (parts == expected)[mask].mean() > 0.97


def test_every_part_is_connected_and_together_they_are_the_mask() -> None:
    blobs = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 60, 60)), 3) > 0
    numbered = ndimage.label(blobs, np.ones((3, 3, 3)))[0]
    mask = numbered == np.bincount(numbered[blobs]).argmax()
    parts = take_apart(mask, (1, 1, 1), RULE)
    assert parts is not None
    assert ((parts > 0) == mask).all()
    for part in range(1, parts.max() + 1):
        assert ndimage.label(parts == part, np.ones((3, 3, 3)))[1] == 1


def test_parts_below_the_smallest_volume_stay_with_their_neighbour() -> None:
    mask = ellipsoid((40, 40, 60), (20, 20, 20), (12, 12, 12))
    mask |= ellipsoid((40, 40, 60), (20, 20, 37), (6, 6, 6))
    small = take_apart(mask, (1, 1, 1), RULE, min_voxels=100)
    assert small is not None and small.max() == 2
    assert take_apart(mask, (1, 1, 1), RULE, min_voxels=1000) is None


def test_large_objects_are_cut_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, along_mm = two_balls((1, 0.5, 0.5), (1, 2, 3))
    monkeypatch.setattr(touching, "VOXELS_AT_ONCE", mask.size // 7)
    parts = take_apart(mask, (1, 0.5, 0.5), RULE)
    assert parts is not None and parts.max() == 2
    assert ((parts > 0) == mask).all()
    first = parts[mask & (along_mm < -5)][0]
    assert abs(along_mm[mask & ((parts == first) != (along_mm < 0))]).max() <= 2
