"""What DimeNet is made of: Bessel functions, Legendre polynomials, triplets and the sums over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from graphs import System, graph_of, molecule, one_atom, triclinic
from scipy.special import eval_legendre, spherical_jn
from torch.autograd import gradcheck, gradgradcheck

from model.layers.radial import envelope
from model.layers.spherical import bessel_roots, bessel_scales, closing_envelope, legendre, spherical_bessel
from model.layers.triplets import expand, triplets


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_(True)


@pytest.mark.parametrize("order", range(11))
def test_spherical_bessel_against_scipy(order):
    x = torch.linspace(0, 60, 5001, dtype=torch.float64)
    assert np.abs(spherical_bessel(order, x).numpy() - spherical_jn(order, x.numpy())).max() < 5e-15
    assert np.abs(spherical_bessel(order, x.float()).numpy() - spherical_jn(order, x.numpy())).max() < 1e-6


@pytest.mark.parametrize("order", [0, 1, 4, 7])
def test_derivatives_of_spherical_bessel(order):
    x = torch.tensor([1e-3, 0.5, order + 0.99, order + 1.01, 9.0, 30.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(spherical_bessel(order, x).sum(), x)
    exact = spherical_jn(order, x.detach().numpy(), derivative=True)
    np.testing.assert_allclose(slope.numpy(), exact, atol=2e-15)
    assert gradgradcheck(lambda t: spherical_bessel(order, t), (x,))


def test_bessel_functions_are_orthogonal_and_vanish_at_one():
    roots, scales = (np.array(rows(8, 12)) for rows in (bessel_roots, bessel_scales))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x, weights = 0.5 * (nodes + 1), 0.5 * weights
    for order in range(8):
        assert np.abs(spherical_jn(order, roots[order])).max() < 1e-14
        assert (np.diff(roots[order]) > 3.0).all()
        functions = scales[order][:, None] * spherical_jn(order, roots[order][:, None] * x)
        overlap = (functions * weights * x**2) @ functions.T
        np.testing.assert_allclose(overlap, np.eye(12) / 8, atol=1e-13)
    np.testing.assert_allclose(roots[0], np.pi * np.arange(1, 13))


def test_legendre():
    cosine = torch.linspace(-1, 1, 11, dtype=torch.float64)
    for count in (1, 2, 8):
        exact = [np.sqrt(2 * order + 1) * eval_legendre(order, cosine.numpy()) for order in range(count)]
        np.testing.assert_allclose(legendre(cosine, count).numpy(), np.array(exact), atol=1e-14)


@pytest.mark.parametrize("power", [3, 5, 7])
def test_closing_envelope(power):
    d = torch.tensor([0.0, 1.5, 3.0 - 1e-5, 3.0, 3.5], dtype=torch.float64, requires_grad=True)
    value = closing_envelope(d, 3.0, power)
    (slope,) = torch.autograd.grad(value.sum(), d, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), d)
    assert value[0] == 1.0 and value[1] > 0.4
    assert value[2:].abs().max() < 1e-12 and slope[2:].abs().max() < 1e-7 and bend[2:].abs().max() < 1e-2
    assert not value[4:].any() and not slope[4:].any() and not bend[4:].any()
    if power == 3:
        torch.testing.assert_close(value, envelope(d, 3.0), rtol=0, atol=1e-14)


def by_hand(graph) -> set[tuple[int, int]]:
    found = set()
    edges = list(zip(*graph.edge_index.tolist(), graph.edge_shift.tolist(), strict=True))
    for (a, (k, j, first)), (b, (j2, i, second)) in itertools.product(enumerate(edges), repeat=2):
        back = k == i and all(x == -y for x, y in zip(first, second, strict=True))
        if j == j2 and not back:
            found.add((a, b))
    return found


SYSTEMS = {
    "molecule": [molecule()],
    "triclinic": [triclinic()],
    "one_atom": [one_atom()],
    "batch": [molecule(1), molecule(4), one_atom(), molecule(2)],
    "alone": [molecule(1)],
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_triplets_are_all_but_the_ways_back(name):
    graph = graph_of(SYSTEMS[name], 3.2)
    pairs = triplets(graph)
    assert set(zip(*pairs.tolist(), strict=True)) == by_hand(graph)
    assert pairs.shape[1] == len(by_hand(graph))
    assert (pairs[1].diff() >= 0).all()


def test_an_image_of_the_atom_where_a_triplet_ends_is_no_way_back():
    """Two atoms in a short cell: the one sees the other on both sides, and by both sides itself."""
    cell = torch.diag(torch.tensor([2.0, 20.0, 20.0], dtype=torch.float64))
    places = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    graph = graph_of(System(torch.tensor([6, 8]), places, cell), 1.5)
    assert graph.edge_index.shape[1] == 4
    assert triplets(graph).shape[1] == 4


def test_expand():
    index = torch.tensor([0, 2, 2, 1, 0])
    factors, field = numbers(3, 5), numbers(3, 4, 2, seed=1)
    plain = torch.einsum("lt,ltw->tw", factors, field[:, index])
    torch.testing.assert_close(expand(factors, field, index), plain)
    assert gradcheck(lambda p, g: expand(p, g, index), (factors, field))
    assert gradgradcheck(lambda p, g: expand(p, g, index).pow(2), (factors, field))
    assert gradcheck(lambda p: expand(p, field.detach(), index), (factors,))
    assert gradcheck(lambda g: expand(factors.detach(), g, index), (field,))
