"""The pieces that models are made of: their values against plain torch, and their derivatives of first and second order."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from model.layers.activation import silu
from model.layers.dense import _LowProduct
from model.layers.edges import directed_sum, neighbor_sum
from model.layers.head import split_by_branch
from model.layers.radial import envelope, radial_basis, soft_lengths

EDGES = torch.tensor([[1, 2, 0, 2, 0, 3, 0], [0, 0, 1, 1, 2, 2, 3]])


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_(True)


@pytest.mark.parametrize("components", [1, 3])
def test_neighbor_sum(components):
    weights, sent = numbers(7, 2), numbers(4, components, 2, seed=1)
    plain = torch.zeros_like(sent).index_add(0, EDGES[1], weights[:, None] * sent[EDGES[0]])
    torch.testing.assert_close(neighbor_sum(weights, sent, EDGES), plain)
    assert gradcheck(lambda w, a: neighbor_sum(w, a, EDGES), (weights, sent))
    assert gradgradcheck(lambda w, a: neighbor_sum(w, a, EDGES).pow(2), (weights, sent))


def test_directed_sum():
    units, messages = numbers(7, 3), numbers(7, 2, seed=1)
    plain = torch.zeros(4, 3, 2, dtype=torch.float64).index_add(0, EDGES[1], units[..., None] * messages[:, None])
    torch.testing.assert_close(directed_sum(units, messages, EDGES, 4), plain)
    assert gradcheck(lambda u, m: directed_sum(u, m, EDGES, 4), (units, messages))
    assert gradgradcheck(lambda u, m: directed_sum(u, m, EDGES, 4).pow(2), (units, messages))


def test_a_product_in_another_precision_has_the_derivatives_of_a_product():
    left, right = numbers(3, 4), numbers(4, 2, seed=1)

    def product(a, b):
        return _LowProduct.apply(a, b, torch.float64)

    torch.testing.assert_close(product(left, right), left @ right)
    assert gradcheck(product, (left, right))
    assert gradgradcheck(lambda a, b: product(a, b).pow(2), (left, right))
    assert gradcheck(lambda a: product(a, right.detach()), (left,))
    assert gradcheck(lambda b: product(left.detach(), b), (right,))


def test_silu():
    x = numbers(50)
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(x))
    assert gradcheck(silu, (x,))
    assert gradgradcheck(silu, (x,))


def test_silu_has_a_third_derivative():
    x, same = numbers(9), numbers(9)
    for function, at in ((silu, x), (torch.nn.functional.silu, same)):
        value = function(at)
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        at.third = value.detach()
    torch.testing.assert_close(x.third, same.third)


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
def test_envelope_closes_with_two_derivatives(cutoff):
    d = torch.tensor([0.5 * cutoff, cutoff - 1e-4, cutoff, cutoff + 1.0], dtype=torch.float64, requires_grad=True)
    value = envelope(d, cutoff)
    (slope,) = torch.autograd.grad(value.sum(), d, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), d)
    assert float(value.detach()[0]) == pytest.approx(0.5)
    for derivative, bound in ((value.detach(), 1e-12), (slope.detach(), 1e-7), (bend, 1e-2)):
        assert derivative[1:].abs().max() < bound


def test_radial_basis():
    d = torch.linspace(0.5, 4.99, 400, dtype=torch.float64)
    basis = radial_basis(d, 5.0, 6)
    assert basis.shape == (7, 400)
    torch.testing.assert_close(basis[2], 0.5 * torch.sin(3 * torch.pi * d / 5) / (d / 5) * envelope(d, 5.0))
    assert torch.equal(basis[-1], envelope(d, 5.0))
    assert not radial_basis(torch.tensor([5.0, 5.1, 7.0]), 5.0, 6).any()


def test_soft_lengths_never_vanish():
    vectors = torch.tensor([[0.0, 0, 0], [3.0, 4.0, 0.0]], dtype=torch.float64)
    assert soft_lengths(vectors).tolist() == pytest.approx([1e-3, 5.0], abs=1e-6)


def test_split_by_branch():
    parts = split_by_branch(torch.tensor([2, 0, 2, 2, 0]), 4)
    assert [(branch, rows.tolist()) for branch, rows in parts] == [(0, [1, 4]), (2, [0, 2, 3])]
    assert split_by_branch(torch.tensor([1, 1]), 4) == [(1, slice(None))]
