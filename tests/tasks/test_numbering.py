import numpy as np
import torch

from autoseg.tasks.numbering import MOST_OBJECTS, ranks_of


def test_ranks_are_the_places_among_the_numbers_that_a_sample_has() -> None:
    keys = torch.randint(0, 9, (3, 40), generator=torch.Generator().manual_seed(0)) * 1000
    for own, found in zip(keys.numpy(), ranks_of(keys).numpy(), strict=True):
        np.testing.assert_array_equal(found, np.unique(own, return_inverse=True)[1])


def test_too_many_are_taken_for_one() -> None:
    assert int(ranks_of(torch.arange(MOST_OBJECTS + 5)[None]).max()) == MOST_OBJECTS - 1
