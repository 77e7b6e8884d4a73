import torch

from autoseg.networks.chosen_rows import surest, taken


def test_the_surest_come_first_and_of_fewer_all() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5]])
    values, index = surest(scores, 2)
    assert index.tolist() == [[1, 2]] and torch.equal(values, scores[:, [1, 2]])
    assert surest(scores, 9)[1].tolist() == [[1, 2, 0]]


def test_rows_of_any_shape_are_taken_by_their_index() -> None:
    values, index = torch.randn(2, 5, 3, 4), torch.tensor([[4, 0], [2, 2]])
    for rows in (values, values[..., 0], values[..., 0, 0]):
        expected = torch.stack([rows[0][index[0]], rows[1][index[1]]])
        assert torch.equal(taken(rows, index), expected)
