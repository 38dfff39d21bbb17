"""Joints mixed product by product are those of one einsum, and so are all gradients."""

import pytest
import torch

from trainables.models.mixing import mixed_by_each

SHAPES = [(3, 4, 5, 6, 3), (1, 2, 1, 25, 1), (2, 1, 7, 1, 2), (1, 1, 1, 1, 1)]
"""Samples, channels, frames, joints, matrices."""


def twin(x, matrices):
    samples, _, frames, joints = x.shape
    own = matrices if matrices.ndim == 4 else matrices.expand(samples, -1, -1, -1)
    return torch.einsum("nctv,nkvw->nkctw", x, own).reshape(samples, -1, frames, joints)


def drawn(shape, *, own, gaps=False):
    samples, channels, frames, joints, number = shape
    generator = torch.Generator().manual_seed(sum(shape))

    def normal(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    x = normal(samples, frames, joints, channels) if gaps else normal(*shape[:4])
    matrices = normal(*((samples,) if own else ()), number, joints, joints)
    if gaps:
        x, matrices = x.permute(0, 3, 1, 2), matrices.mT
    out = normal(samples, number * channels, frames, joints)
    return x.requires_grad_(), matrices.requires_grad_(), out


@pytest.mark.parametrize("own", [False, True], ids=["shared", "of each sample"])
@pytest.mark.parametrize("gaps", [False, True], ids=["dense", "with gaps"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients_are_those_of_one_sum(shape, gaps, own):
    x, matrices, into = drawn(shape, own=own, gaps=gaps)
    found, expected = mixed_by_each(x, matrices), twin(x, matrices)
    gradients = torch.autograd.grad(found, (x, matrices), into)
    expected_gradients = torch.autograd.grad(expected, (x, matrices), into)
    for one, other in zip((found, *gradients), (expected, *expected_gradients), strict=True):
        # rounding of sums of at most 200 products of normal numbers
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_only_what_learns_has_a_gradient():
    x, matrices, into = drawn(SHAPES[0], own=False)
    (of_x,) = torch.autograd.grad(mixed_by_each(x, matrices.detach()), (x,), into)
    (of_matrices,) = torch.autograd.grad(mixed_by_each(x.detach(), matrices), (matrices,), into)
    of_both = torch.autograd.grad(mixed_by_each(x, matrices), (x, matrices), into)
    assert torch.equal(of_x, of_both[0])
    assert torch.equal(of_matrices, of_both[1])


def test_the_input_is_kept_once():
    x, matrices, _ = drawn((2, 3, 4, 5, 3), own=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        mixed_by_each(x, matrices)
    assert sum(tensor.numel() for tensor in kept) == x.numel() + matrices.numel()


def test_under_autocast_and_where_it_is_compiled_it_is_one_product():
    x, matrices, _ = drawn((2, 3, 4, 5, 3), own=False)
    x, matrices = x.detach().float(), matrices.detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixed_by_each(x, matrices).dtype == torch.bfloat16
    compiled = torch.compile(mixed_by_each, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, matrices), mixed_by_each(x, matrices))
