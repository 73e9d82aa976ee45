"""Pairs of edges that meet at an atom, and sums over them that keep nothing wide alive.

The sums are partial derivatives of a form that is linear in each of its three arguments, as in `model.layers.edges`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from model.graph import AtomGraph


def triplets(graph: AtomGraph) -> Tensor:
    """Return all pairs of an edge k → j and an edge j → i, but not an edge with itself reversed.

    The same two atoms by another cell shift are a triplet like any other: k may be i, and in a small cell all three
    may be one atom.

    Args:
        graph: A batch, its edges sorted by receiver.

    Returns:
        (2, num_triplets) int64: the edge that comes in, and the edge that goes out, ascending.
    """
    sender, receiver = graph.edge_index
    degree = torch.bincount(receiver, minlength=graph.positions.shape[0])
    first = degree.cumsum(0) - degree
    partners = degree.index_select(0, sender)
    outgoing = torch.repeat_interleave(partners)
    begin = first.index_select(0, sender) - (partners.cumsum(0) - partners)
    incoming = begin.index_select(0, outgoing) + torch.arange(outgoing.shape[0], device=outgoing.device)
    returns = sender.index_select(0, incoming) == receiver.index_select(0, outgoing)
    shift = graph.edge_shift
    returns &= (shift.index_select(0, incoming) == -shift.index_select(0, outgoing)).all(-1)
    return torch.stack([incoming, outgoing])[:, ~returns]


def expand(factors: Tensor, field: Tensor, index: Tensor) -> Tensor:
    """Return Σ_l P_lt·G_l[index_t].

    Args:
        factors: P, (degrees, num_triplets).
        field: G, (degrees, num_edges, width).
        index: Edge of each triplet, (num_triplets,).

    Returns:
        (num_triplets, width).
    """
    total: Tensor = _Expand.apply(factors, field, index)
    return total


class _Expand(Function):
    """Σ_l P_lt·G_l[index_t], from the form Σ_t Σ_l P_lt ⟨G_l[index_t], b_t⟩."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor, field: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(factors, field, index)
        total = field.new_zeros(index.shape[0], field.shape[2])
        for row, part in zip(factors, field, strict=True):
            total.addcmul_(part.index_select(0, index), row.unsqueeze(-1))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        factors, field, index = ctx.saved_tensors
        slope = _Overlap.apply(field, grads[0], index) if ctx.needs_input_grad[0] else None
        return slope, _Collect.apply(factors, grads[0], index, field.shape[1]) if ctx.needs_input_grad[1] else None, None


class _Overlap(Function):
    """⟨G_l[index_t], b_t⟩ of each degree and triplet."""

    @staticmethod
    def forward(ctx: Any, field: Tensor, values: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(field, values, index)
        return torch.stack([part.index_select(0, index).mul_(values).sum(-1) for part in field])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        field, values, index = ctx.saved_tensors
        slope = _Collect.apply(grads[0], values, index, field.shape[1]) if ctx.needs_input_grad[0] else None
        return slope, _Expand.apply(grads[0], field, index) if ctx.needs_input_grad[1] else None, None


class _Collect(Function):
    """Σ_t P_lt·b_t over the triplets of each edge."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor, values: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(factors, values, index)
        total = values.new_zeros(factors.shape[0], count, values.shape[1])
        for row, part in zip(factors, total, strict=True):
            part.index_add_(0, index, row.unsqueeze(-1) * values)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        factors, values, index = ctx.saved_tensors
        slope = _Overlap.apply(grads[0], values, index) if ctx.needs_input_grad[0] else None
        return slope, _Expand.apply(factors, grads[0], index) if ctx.needs_input_grad[1] else None, None, None
