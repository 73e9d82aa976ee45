"""Principal-neighbourhood aggregation (Corso et al., NeurIPS 2020), made smooth at the cutoff.

Published PNA takes the mean, spread, least and most of messages over whoever is a neighbour, and scales them by how many
there are: all of it jumps when an atom crosses the cutoff. Here a neighbour counts by its envelope f, which is 0 there with
two derivatives, and every atom counts as one neighbour of its own with the message 0, so that no denominator comes near 0
as the last neighbour leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from model.layers.radial import envelope

SHARPNESS = 4.0
"""β of the soft extremes. Messages lie within ±1, so that e^(±βm) neither overflows nor outweighs an envelope near 0."""
SOFTENING = 1e-2
"""Added to the variance under the root, so that equal messages have finite derivatives."""
AGGREGATORS, SCALERS = 4, 5


def soft_degree(lengths: Tensor, receiver: Tensor, num_atoms: int, cutoff: float) -> Tensor:
    """Return n_i = 1 + Σ_j f(r_ij), (num_atoms,): each neighbour by its envelope, and the atom itself."""
    return lengths.new_ones(num_atoms).index_add(0, receiver, envelope(lengths, cutoff))


def log_degree(lengths: Tensor, receiver: Tensor, num_atoms: int, cutoff: float) -> Tensor:
    """Return ln(1 + n_i), (num_atoms,)."""
    return torch.log1p(soft_degree(lengths, receiver, num_atoms, cutoff))


def scalers(degree: Tensor, average: Tensor, average_log: Tensor) -> Tensor:
    """Return 1, n/N, N/n, ln(1+n)/L and L/ln(1+n) of each atom, (num_atoms, SCALERS, 1).

    Args:
        degree: n, (num_atoms,), 1 or more.
        average: N, mean of n over the training split.
        average_log: L, mean of ln(1 + n) over the training split.
    """
    linear, logarithm = degree / average, torch.log1p(degree) / average_log
    return torch.stack([torch.ones_like(degree), linear, 1 / linear, logarithm, 1 / logarithm], 1).unsqueeze(-1)


def aggregate(messages: Tensor, weights: Tensor, receiver: Tensor, degree: Tensor) -> Tensor:
    """Return mean, standard deviation, soft least and soft most of the messages to each atom.

    All four are of a distribution with the weight f/n on each neighbour's message and 1/n on the atom's own 0: the
    deviation is √(variance + SOFTENING); the extremes are ±ln(mean of e^(±βm))/β, which lie between mean and extreme.

    Args:
        messages: m, (num_edges, width), within ±1.
        weights: f, (num_edges,).
        receiver: (num_edges,).
        degree: n = 1 + Σ f, (num_atoms,).

    Returns:
        (num_atoms, AGGREGATORS · width).
    """
    share = (1 / degree).unsqueeze(-1)
    sums: Tensor = _Sums.apply(messages, weights, receiver, degree.shape[0])
    mean, square, upper, lower = (sums * share).unbind(0)
    deviation = torch.sqrt(square - mean * mean + SOFTENING)
    most, least = (torch.log(part + share) / SHARPNESS for part in (upper, lower))
    return torch.cat([mean, deviation, -least, most], -1)


class _Sums(Function):
    """Σ_j f_ij·g_k(m_ij) at each receiver for g = m, m², e^βm, e^−βm, (4, num_atoms, width); keeps only m alive."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, weights: Tensor, receiver: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(messages, weights, receiver)
        total = messages.new_zeros(AGGREGATORS, count, messages.shape[1])
        for part, (moment, _, _) in zip(total, _moments(messages), strict=True):
            part.index_add_(0, receiver, moment * weights.unsqueeze(-1))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        messages, weights, receiver = ctx.saved_tensors
        return *_Slopes.apply(messages, weights, grads[0], receiver), None, None


class _Slopes(Function):
    """Derivatives in m and f of Σ_e f·q with q = Σ_k b_k g_k(m), where b_k is the field at the receiver."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, weights: Tensor, field: Tensor, receiver: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(messages, weights, field, receiver)
        value, slope = torch.zeros_like(messages), torch.zeros_like(messages)
        for part, (moment, first, _) in zip(field, _moments(messages), strict=True):
            there = part.index_select(0, receiver)
            value.addcmul_(there, moment)
            slope.addcmul_(there, first)
        return slope.mul_(weights.unsqueeze(-1)), value.sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        messages, weights, field, receiver = ctx.saved_tensors
        by_message, by_weight = grads[0], grads[1].unsqueeze(-1)
        weighted = by_message * weights.unsqueeze(-1)
        slope, curve, fields = torch.zeros_like(messages), torch.zeros_like(messages), []
        for part, (moment, first, second) in zip(field, _moments(messages), strict=True):
            there = part.index_select(0, receiver)
            slope, curve = torch.addcmul(slope, there, first), torch.addcmul(curve, there, second)
            change = torch.addcmul(by_weight * moment, weighted, first)
            fields.append(torch.zeros_like(part).index_add(0, receiver, change))
        return torch.addcmul(by_weight * slope, weighted, curve), (by_message * slope).sum(-1), torch.stack(fields), None


def _moments(messages: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield g, g′ and g″, one after the other, so that four times three of them are never there at once."""
    one = messages.new_tensor(1.0)
    yield messages, one, 0 * one
    yield messages * messages, 2 * messages, 2 * one
    growth = torch.exp(SHARPNESS * messages)
    yield growth, SHARPNESS * growth, SHARPNESS**2 * growth
    decay = 1 / growth
    yield decay, -SHARPNESS * decay, SHARPNESS**2 * decay
