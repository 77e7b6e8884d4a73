import numpy as np
import pytest
import torch

from autoseg.augmentation.sample import MaskAugmentation
from autoseg.networks.inputs import SOURCES, map_kinds, network_input
from autoseg.planning.model_plan import InputPlan, ScanInput, StageMaskInput

SCAN = ScanInput(channels=("CT", "PET"))
MASK = StageMaskInput(stage="3d_lowres", classes=("organ", "lesion", "vessel"))


def batch_of(space: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of two channels, and maps of a background and three classes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, *space, generator=generator)
    return image, torch.randint(0, 4, (2, *space), generator=generator, dtype=torch.uint8)


def test_a_scan_alone_is_seen_as_it_is() -> None:
    image, mask = batch_of((4, 5, 6))
    assert network_input(image, {}, (SCAN,)) is image
    assert network_input(image, {"stage_mask": mask}, (SCAN,)) is image  # which was not asked for


@pytest.mark.parametrize("space", [(5, 6), (4, 5, 6)])
def test_a_mask_is_seen_as_a_channel_for_each_class(space: tuple[int, ...]) -> None:
    image, mask = batch_of(space)
    inputs: tuple[InputPlan, ...] = (SCAN, MASK)
    found = network_input(image, {"stage_mask": mask}, inputs)
    classes = np.moveaxis(np.eye(4, dtype=np.float32)[mask.numpy()], -1, 1)[:, 1:]
    np.testing.assert_array_equal(found, np.concatenate((image.numpy(), classes), axis=1))
    assert found.shape[1] == sum(len(source.channel_names) for source in inputs)
    assert found.dtype == torch.float32


def test_maps_that_came_as_numbers_are_told_apart_as_well() -> None:
    image, mask = batch_of((4, 5, 6))
    given = network_input(image, {"stage_mask": mask.float()}, (SCAN, MASK))
    assert torch.equal(given, network_input(image, {"stage_mask": mask}, (SCAN, MASK)))


def test_a_map_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="stage_mask"):
        network_input(batch_of((4, 5))[0], {}, (SCAN, MASK))


def test_every_input_but_the_scan_travels_as_a_map() -> None:
    assert map_kinds((SCAN,)) == ()
    assert map_kinds((SCAN, MASK)) == ("stage_mask",)
    assert set(SOURCES) == {"stage_mask"}


def test_a_mask_is_changed_in_training_as_drawn() -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    simulate = SOURCES["stage_mask"].simulate
    np.testing.assert_array_equal(simulate(mask, MaskAugmentation(0, False, 0, 0)), mask)
    np.testing.assert_array_equal(simulate(mask, MaskAugmentation(0, True, 100, 0)), 0)
