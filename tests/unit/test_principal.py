"""Smooth principal-neighbourhood aggregation against its formulas written out, and SchNet's Gaussians."""

from __future__ import annotations

import math

import pytest
import torch

from model.layers import principal
from model.layers.gaussian import gaussian_basis

RECEIVER = torch.tensor([0, 0, 0, 2, 2, 3])
NUM_ATOMS = 4


def edges(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return messages (6, 3) within ±1 and weights (6,) in 0…1."""
    generator = torch.Generator().manual_seed(seed)
    messages = torch.tanh(torch.randn(6, 3, generator=generator, dtype=torch.float64))
    return messages, torch.rand(6, generator=generator, dtype=torch.float64)


def degree_of(weights):
    return 1.0 + torch.zeros(NUM_ATOMS, dtype=torch.float64).index_add(0, RECEIVER, weights)


def aggregated(messages, weights):
    return principal.aggregate(messages, weights, RECEIVER, degree_of(weights))


def written_out(messages, weights):
    """Each atom's own message 0 of weight 1, beside its neighbours'."""
    rows = []
    for atom in range(NUM_ATOMS):
        mine = atom == RECEIVER
        values = torch.cat([torch.zeros(1, 3, dtype=torch.float64), messages[mine]])
        share = torch.cat([torch.ones(1, dtype=torch.float64), weights[mine]]).unsqueeze(-1)
        share = share / share.sum()
        mean = (share * values).sum(0)
        deviation = ((share * (values - mean) ** 2).sum(0) + principal.SOFTENING).sqrt()
        extremes = [sign * (share * (sign * principal.SHARPNESS * values).exp()).sum(0).log() for sign in (-1, 1)]
        rows.append(torch.cat([mean, deviation, *(each / principal.SHARPNESS for each in extremes)]))
    return torch.stack(rows)


def test_aggregates_are_their_formulas():
    torch.testing.assert_close(aggregated(*edges()), written_out(*edges()), rtol=1e-12, atol=1e-12)


def test_extremes_lie_between_the_mean_and_the_extreme():
    messages, weights = edges(1)
    mean, _, least, most = aggregated(messages, weights).chunk(4, -1)
    for atom in range(NUM_ATOMS):
        values = torch.cat([torch.zeros(1, 3, dtype=torch.float64), messages[atom == RECEIVER]])
        assert (values.amin(0) <= least[atom]).all()
        assert (least[atom] <= mean[atom]).all()
        assert (mean[atom] <= most[atom]).all()
        assert (most[atom] <= values.amax(0)).all()


def test_first_second_and_third_derivatives():
    inputs = [each.requires_grad_(True) for each in edges(2)]
    assert torch.autograd.gradcheck(aggregated, inputs)
    assert torch.autograd.gradgradcheck(aggregated, inputs)

    def slopes(messages, weights):
        energy = (aggregated(messages, weights) ** 2).sum()
        return torch.autograd.grad(energy, (messages, weights), create_graph=True)

    assert torch.autograd.gradgradcheck(slopes, inputs)


def test_scalers_are_one_at_the_average():
    degree = torch.tensor([1.0, 3.0], dtype=torch.float64)
    average, average_log = torch.tensor(3.0, dtype=torch.float64), torch.tensor(math.log(4.0), dtype=torch.float64)
    scaled = principal.scalers(degree, average, average_log).squeeze(-1)
    torch.testing.assert_close(scaled[1], torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(scaled[0], torch.tensor([1.0, 1 / 3, 3.0, 0.5, 2.0], dtype=torch.float64))


def test_degrees_count_neighbours_by_the_envelope():
    lengths = torch.tensor([1e-9, 2.5, 5.0, 6.0], dtype=torch.float64)
    degree = principal.soft_degree(lengths, torch.tensor([0, 0, 1, 1]), 3, 5.0)
    torch.testing.assert_close(degree, torch.tensor([2.5, 1.0, 1.0], dtype=torch.float64))
    logarithm = principal.log_degree(lengths, torch.tensor([0, 0, 1, 1]), 3, 5.0)
    torch.testing.assert_close(logarithm, torch.log(1 + degree))


@pytest.mark.parametrize("count", [2, 7, 40])
def test_gaussians_stand_at_equal_distances_and_have_mean_square_one(count):
    lengths = torch.linspace(0, 5.0, 4001, dtype=torch.float64)
    basis = gaussian_basis(lengths, 5.0, count)
    assert basis.shape == (count + 1, 4001)
    assert torch.equal(basis[-1], torch.ones(4001, dtype=torch.float64))
    centres = torch.linspace(0, 5.0, count, dtype=torch.float64)
    torch.testing.assert_close(lengths[basis[:-1].argmax(1)], centres, rtol=0, atol=1e-3)
    shape = basis[0] / basis[0, 0]
    width = 5.0 / (count - 1)
    torch.testing.assert_close(shape, torch.exp(-0.5 * (lengths / width) ** 2))
    if count == 40:
        assert float((basis[1:-2] ** 2).mean()) == pytest.approx(1.0, rel=0.05)
