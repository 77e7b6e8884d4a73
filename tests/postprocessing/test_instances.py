import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.dataset.labels import instance_classes
from autoseg.geometry import Box
from autoseg.postprocessing.instances import Instance, InstanceRule, label_instances
from autoseg.postprocessing.touching import NeckRule
from tests.postprocessing.test_touching import ellipsoid

COMPONENTS = InstanceRule(necks=None)
BORDERED = InstanceRule(border=2)
EVERYWHERE = np.ones((3, 3, 3))


def some_classes() -> NDArray[np.uint8]:
    """Blobs of classes 1, 3 and 4, many of which touch."""
    noise = np.random.default_rng(0).normal(size=(3, 20, 40, 30))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5))
    values = np.array([1, 3, 4], np.uint8)[smooth.argmax(axis=0)]
    return np.where(smooth.max(axis=0) > smooth.std(), values, 0).astype(np.uint8)


def test_components_are_those_of_scipy() -> None:
    labels = some_classes()
    numbers, instances = label_instances(labels, (1, 1, 1), COMPONENTS)
    expected = 0
    for value in (1, 3, 4):
        theirs, count = ndimage.label(labels == value, EVERYWHERE)
        pairs = np.unique(np.stack((theirs[labels == value], numbers[labels == value])), axis=1)
        assert pairs.shape[1] == count == len({*pairs[1].tolist()})
        expected += count
    assert len(instances) == expected == numbers.max()
    assert ((numbers > 0) == (labels > 0)).all()


@pytest.mark.parametrize("rule", [COMPONENTS, InstanceRule(), InstanceRule(min_volume_mm3=40)])
def test_records_describe_the_map(rule: InstanceRule) -> None:
    labels = some_classes()
    numbers, instances = label_instances(labels, (2, 0.5, 1), rule)
    found = ndimage.find_objects(numbers)
    assert [item.number for item in instances] == list(range(1, len(found) + 1))
    for item, box in zip(instances, found, strict=True):
        inside = numbers == item.number
        assert set(labels[inside]) == {item.value}
        assert item.box.slices == box
        assert item.volume_mm3 == inside.sum() >= rule.min_volume_mm3
        assert item.centroid_vox == pytest.approx(ndimage.center_of_mass(inside))
        assert ndimage.label(inside, EVERYWHERE)[1] == 1


def test_numbers_rise_with_the_class_and_fall_with_size() -> None:
    labels = np.zeros((4, 10, 30), np.int16)
    labels[1, 2, 2:5] = 2
    labels[1:3, 5:8, 10:15] = 2
    labels[2, 2, 20:23] = 2  # as large as the first, and further down
    labels[0, 0, 29] = 1
    numbers, instances = label_instances(labels, (1, 1, 1), InstanceRule())
    assert [(i.number, i.value, i.volume_mm3) for i in instances] == [
        (1, 1, 1), (2, 2, 30), (3, 2, 3), (4, 2, 3),
    ]  # fmt: skip
    assert numbers[0, 0, 29] == 1 and numbers[1, 2, 2] == 3 and numbers[2, 2, 20] == 4


def test_touching_classes_remain_apart() -> None:
    labels = np.zeros((10, 10, 20), np.uint8)
    labels[2:8, 2:8, 2:10] = 7
    labels[2:8, 2:8, 10:18] = 5
    numbers, instances = label_instances(labels, (1, 1, 1), InstanceRule())
    assert [item.value for item in instances] == [5, 7]
    assert ((numbers == 1) == (labels == 5)).all() and ((numbers == 2) == (labels == 7)).all()


def test_touching_balls_of_one_class_get_numbers_of_their_own() -> None:
    labels = np.zeros((40, 40, 60), np.uint8)
    labels[ellipsoid((40, 40, 60), (20, 20, 18), (10, 10, 10))] = 2
    labels[ellipsoid((40, 40, 60), (20, 20, 35), (9, 9, 9))] = 2
    numbers, instances = label_instances(labels, (1, 1, 1), InstanceRule())
    assert [item.value for item in instances] == [2, 2]
    assert numbers[20, 20, 18] == 1 and numbers[20, 20, 35] == 2
    assert label_instances(labels, (1, 1, 1), COMPONENTS)[0].max() == 1


def test_beside_a_learned_border_only_deep_necks_part_objects() -> None:
    rule = InstanceRule().with_border(9)
    for apart, count in ((15, 1), (19, 2)):
        labels = np.zeros((40, 40, 60), np.uint8)
        labels[ellipsoid((40, 40, 60), (20, 20, 18), (10, 10, 10))] = 2
        labels[ellipsoid((40, 40, 60), (20, 20, 18 + apart), (9, 9, 9))] = 2
        assert label_instances(labels, (1, 1, 1), rule)[0].max() == count
        assert label_instances(labels, (1, 1, 1), InstanceRule())[0].max() == 2


def test_necks_that_somebody_chose_stay_beside_a_border() -> None:
    for necks in (None, NeckRule(prominence=0.3)):
        assert InstanceRule(necks=necks).with_border(2).necks == necks


def test_a_border_keeps_objects_apart_and_belongs_to_them() -> None:
    truth = np.zeros((8, 20, 30), np.uint8)
    truth[2:6, 4:16, 3:15] = 2
    truth[2:6, 4:16, 15:24] = 5  # no neck between them
    numbers, instances = label_instances(instance_classes(truth, (1, 1, 1)), (1, 1, 1), BORDERED)
    assert ((numbers == 1) == (truth == 2)).all() and ((numbers == 2) == (truth == 5)).all()
    assert [item.box.slices for item in instances] == ndimage.find_objects(numbers)
    assert [item.volume_mm3 for item in instances] == [(truth == 2).sum(), (truth == 5).sum()]
    assert {item.value for item in instances} == {1}


def test_the_smallest_volume_counts_the_border() -> None:
    labels = np.zeros((1, 5, 9), np.uint8)
    labels[0, 1:4, 1:3] = 1
    labels[0, 1:4, 3] = 2
    labels[0, 0, 8] = 2  # beside no object
    for smallest, count in ((9, 1), (10, 0)):
        rule = InstanceRule(min_volume_mm3=smallest, border=2)
        numbers, instances = label_instances(labels, (1, 1, 1), rule)
        assert len(instances) == count and (numbers > 0).sum() == 9 * count


def test_the_smallest_volume_is_in_cubic_millimetres() -> None:
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[0, 0, :3] = 1
    labels[2, 5, :4] = 1
    rule = InstanceRule(min_volume_mm3=4 * 0.7 * 0.7 * 3.3)
    numbers, instances = label_instances(labels, (3.3, 0.7, 0.7), rule)
    assert [item.volume_mm3 for item in instances] == [pytest.approx(rule.min_volume_mm3)]
    assert (numbers[0] == 0).all() and (numbers[2, 5, :4] == 1).all()


@pytest.mark.parametrize(("shape", "axes"), [((21, 21, 21), (0, 1, 2)), ((1, 41, 41), (1, 2))])
def test_the_smallest_width_is_that_of_balls_or_in_a_slice_of_discs(
    shape: tuple[int, int, int], axes: tuple[int, ...]
) -> None:
    spacing_mm = (5.0, 0.5, 0.5) if len(axes) == 2 else (1.0, 0.5, 0.5)
    grid = np.indices(shape)[list(axes)].T - (np.array(shape)[list(axes)] // 2)
    inside = (np.linalg.norm(grid * np.array(spacing_mm)[list(axes)], axis=-1) < 4).T
    for smallest_mm, count in ((7.6, 1), (8.4, 0)):
        rule = InstanceRule(smallest_mm=smallest_mm)
        assert len(label_instances(inside.astype(np.uint8), spacing_mm, rule)[1]) == count


def test_nothing_in_nothing_out() -> None:
    numbers, instances = label_instances(np.zeros((3, 4, 5), np.uint8), (1, 1, 1), InstanceRule())
    assert not numbers.any() and numbers.shape == (3, 4, 5) and instances == ()


def test_a_mask_that_fills_the_image_is_one_object() -> None:
    numbers, _ = label_instances(np.ones((4, 30, 30), np.uint8), (1, 1, 1), InstanceRule())
    assert (numbers == 1).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 7])
def test_objects_of_one_slice_are_split_in_it(axis: int, depth: int) -> None:
    plane = ellipsoid((1, 40, 60), (0, 20, 18), (1, 10, 10))[0]
    plane = plane | ellipsoid((1, 40, 60), (0, 20, 35), (1, 10, 10))[0]
    labels = np.zeros((depth, 40, 60), np.uint8)
    labels[depth // 2] = plane
    numbers, instances = label_instances(np.moveaxis(labels, 0, axis), (1, 1, 1), InstanceRule())
    assert len(instances) == 2
    assert sum(item.volume_mm3 for item in instances) == plane.sum() == (numbers > 0).sum()


def test_the_result_does_not_depend_on_the_order_in_memory() -> None:
    labels = some_classes()
    numbers, instances = label_instances(labels, (1, 1, 1), InstanceRule())
    again = label_instances(np.asfortranarray(labels), (1, 1, 1), InstanceRule())
    assert again[1] == instances and (again[0] == numbers).all()


def test_the_map_has_the_smallest_type_that_holds_its_numbers() -> None:
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[0, ::2, ::2] = 1
    numbers, instances = label_instances(labels, (1, 1, 1), InstanceRule())
    assert numbers.dtype == np.uint16 and len(instances) == numbers.max() == 600
    assert label_instances(labels[:, :10], (1, 1, 1), InstanceRule())[0].dtype == np.uint8


def test_labels_are_left_as_they_are() -> None:
    labels = some_classes()
    before = labels.copy()
    label_instances(labels, (1, 1, 1), InstanceRule())
    assert (labels == before).all()


def test_an_instance_reads_as_json() -> None:
    box = Box(start=(0, 1, 2), stop=(1, 2, 4))
    item = Instance(number=1, value=2, volume_mm3=2.0, centroid_vox=(0, 1, 2.5), box=box)
    assert Instance.model_validate_json(item.model_dump_json()) == item
