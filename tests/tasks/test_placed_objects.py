import numpy as np
import pytest
import torch
from skimage.measure import regionprops

from autoseg.dataset.labels import IGNORED
from autoseg.planning.model_plan import CandidatesPlan
from autoseg.tasks.placed_objects import PlacedObjects, place_objects
from tests.objects_made_up import balls


def plan(dims: int, queries: int = 30) -> CandidatesPlan:
    return CandidatesPlan(
        kind="yolact", classes=3, things=(1, 2), border=2, queries=queries, mask_stride=(2,) * dims,
        spacing_mm=(1.0,) * dims, sizes_mm=(),
    )  # fmt: skip


def placed(numbers: np.ndarray) -> PlacedObjects:
    labels = torch.from_numpy((numbers > 0).astype(np.uint8))[None]
    return place_objects(labels, torch.from_numpy(numbers)[None], plan(numbers.ndim))


@pytest.mark.parametrize("shape", [(40, 36), (20, 24, 22)])
def test_boxes_and_centres_are_those_that_scikit_image_measures(shape: tuple[int, ...]) -> None:
    numbers = balls(shape, (1.0,) * len(shape))
    found = placed(numbers)
    there = found.classes[0] > 0
    expected = sorted(
        ([*region.bbox], [round(c + 0.5, 3) for c in region.centroid], int(region.area))
        for region in regionprops(numbers)
    )
    boxes = found.boxes[0][there].int().tolist()
    centres = [[round(c, 3) for c in each] for each in found.centres[0][there].tolist()]
    voxels = found.voxels[0][there].tolist()
    assert sorted(zip(boxes, centres, voxels, strict=True)) == [tuple(each) for each in expected]


def test_shares_of_coarser_voxels_are_means_of_fine_ones() -> None:
    numbers = balls((40, 36), (1.0, 1.0))
    found = placed(numbers)
    own = torch.arange(found.classes.shape[1])[None]
    shares = found.shares(own, (2, 2)).view(-1, 20, 18)
    for mask in own[0][found.classes[0] > 0].tolist():
        fine = (found.masks[0] == mask).float()
        expected = torch.nn.functional.avg_pool2d(fine[None], 2)[0]
        torch.testing.assert_close(shares[mask], expected)


def test_what_nobody_annotated_is_known_of_no_mask_and_borders_are_of_their_object() -> None:
    labels = torch.ones((1, 8, 8), dtype=torch.uint8)
    labels[:, 0], labels[:, 4] = IGNORED, 2
    objects = torch.ones((1, 8, 8), dtype=torch.int32)
    found = place_objects(labels, objects, plan(2))
    assert found.known((2, 2)).view(4, 4)[:, 0].tolist() == [0.5, 1, 1, 1]
    assert int((found.labels == 2).sum()) == 0
    assert found.classes[0].max() == 1 and int((found.classes > 0).sum()) == 1
