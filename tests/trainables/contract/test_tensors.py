"""Tensors in pickles become arrays without torch, and damaged ones an error."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from trainables.contract.pickles import Refused, load_pickle
from trainables.contract.tensors import tensor

BASE = torch.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "value",
    [
        BASE,
        BASE.float(),
        BASE.half(),
        BASE.double(),
        BASE.to(torch.uint8),
        BASE > 7,
        BASE[1],
        BASE.transpose(0, 2),
        BASE[:, ::2, 1],
        torch.tensor(3),
        torch.zeros(0, 4),
    ],
    ids=lambda value: f"{value.dtype} {tuple(value.shape)}",
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_tensor_is_read_as_the_array_it_is(tmp_path, value, protocol):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps([value, value], protocol=protocol))
    both = load_pickle(tmp_path / "t.pkl")
    assert len(both) == 2
    for found in both:
        assert found.dtype == value.numpy().dtype
        assert np.array_equal(found, value.numpy())


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (4,), (-1,))],
)
def test_a_tensor_stays_within_its_storage(offset, shape, strides):
    with pytest.raises(ValueError, match="beyond its storage"):
        tensor(np.arange(4), offset, shape, strides)


def test_numbers_shown_many_times_are_refused():
    with pytest.raises(ValueError, match="beyond its storage"):
        tensor(np.arange(4), 0, (10**9,), (0,))


def test_a_damaged_tensor_is_refused_or_has_one_other_number(tmp_path):
    whole, differ, refused = BASE.float().numpy(), [], 0
    for part in range(40, 400, 7):
        content = bytearray(pickle.dumps([BASE.float()]))
        content[part % len(content)] ^= 0xFF
        (tmp_path / "t.pkl").write_bytes(bytes(content))
        try:
            (found,) = load_pickle(tmp_path / "t.pkl")
        except Refused:
            refused += 1
        else:
            assert (found.dtype, found.shape) == (whole.dtype, whole.shape)
            differ.append(int((found != whole).sum()))
    assert refused > 30
    assert set(differ) <= {0, 1}
    assert differ.count(1) > 5


class Hostile:
    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(np.zeros(3)),)


def test_only_a_storage_is_read_as_one(tmp_path):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(Refused, match="damaged"):
        load_pickle(tmp_path / "t.pkl")
