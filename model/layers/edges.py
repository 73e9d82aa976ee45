"""Sums over neighbours, with derivatives of every order that keep no edge-wide product alive.

Both sums are partial derivatives of a form that is linear in each of its three arguments, so their derivatives are
the form's other partials: a closed set of five functions, each one pass over the edges.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def neighbor_sum(weights: Tensor, sent: Tensor, edge_index: Tensor) -> Tensor:
    """Return Σ_j w_ij∘a_j at each receiver i.

    Args:
        weights: w, (num_edges, width).
        sent: a, (num_atoms, components, width).
        edge_index: (2, num_edges), senders and receivers.

    Returns:
        (num_atoms, components, width).
    """
    total: Tensor = _Sum.apply(weights, sent, edge_index[0], edge_index[1])
    return total


def directed_sum(units: Tensor, messages: Tensor, edge_index: Tensor, num_atoms: int) -> Tensor:
    """Return Σ_j u_ij⊗m_ij at each receiver i.

    Args:
        units: u, (num_edges, 3).
        messages: m, (num_edges, width).
        edge_index: (2, num_edges), senders and receivers.
        num_atoms: Number of receivers.

    Returns:
        (num_atoms, 3, width).
    """
    total: Tensor = _Outer.apply(units, messages, edge_index[1], num_atoms)
    return total


class _Sum(Function):
    """Σ_e w_e∘a[from_e, c] at `to_e`, from the form Σ_e Σ_c ⟨w_e, a[from_e, c]∘b[to_e, c]⟩."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, sent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        ctx.save_for_backward(weights, sent, start, end)
        product = _rows(sent, start)
        for component in product.unbind(1):  # three plain products are twice as fast as one that broadcasts
            component.mul_(weights)
        return sent.new_zeros(sent.shape).index_add_(0, end, product)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weights, sent, start, end = ctx.saved_tensors
        slope = _Pair.apply(sent, grads[0], start, end) if ctx.needs_input_grad[0] else None
        return slope, _Sum.apply(weights, grads[0], end, start) if ctx.needs_input_grad[1] else None, None, None


class _Pair(Function):
    """Σ_c a[from_e, c]∘b[to_e, c] of each edge."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, start: Tensor, end: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, start, end)
        pairs = zip(_rows(left, start).unbind(1), _rows(right, end).unbind(1), strict=True)
        total = torch.mul(*next(pairs))
        for first, second in pairs:
            total.addcmul_(first, second)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        left, right, start, end = ctx.saved_tensors
        first = _Sum.apply(grads[0], right, end, start) if ctx.needs_input_grad[0] else None
        return first, _Sum.apply(grads[0], left, start, end) if ctx.needs_input_grad[1] else None, None, None


class _Outer(Function):
    """Σ_e u_e⊗m_e at `end_e`, from the form Σ_e Σ_c u_ec ⟨m_e, b[end_e, c]⟩."""

    @staticmethod
    def forward(ctx: Any, units: Tensor, messages: Tensor, end: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(units, messages, end)
        product = messages.new_empty(messages.shape[0], 3, messages.shape[1])
        for axis in range(3):
            torch.mul(messages, units[:, axis : axis + 1], out=product[:, axis])
        return messages.new_zeros(count, 3, messages.shape[1]).index_add_(0, end, product)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        units, messages, end = ctx.saved_tensors
        slope = _Dots.apply(messages, grads[0], end) if ctx.needs_input_grad[0] else None
        return slope, _Contract.apply(units, grads[0], end) if ctx.needs_input_grad[1] else None, None, None


class _Contract(Function):
    """Σ_c u_ec b[end_e, c] of each edge, (num_edges, width)."""

    @staticmethod
    def forward(ctx: Any, units: Tensor, field: Tensor, end: Tensor) -> Tensor:
        ctx.save_for_backward(units, field, end)
        parts = _rows(field, end).unbind(1)
        total = parts[0] * units[:, 0:1]
        for axis in (1, 2):
            total.addcmul_(parts[axis], units[:, axis : axis + 1])
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        units, field, end = ctx.saved_tensors
        slope = _Dots.apply(grads[0], field, end) if ctx.needs_input_grad[0] else None
        return slope, _Outer.apply(units, grads[0], end, field.shape[0]) if ctx.needs_input_grad[1] else None, None


class _Dots(Function):
    """⟨m_e, b[end_e, c]⟩ of each edge and axis, (num_edges, 3)."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, field: Tensor, end: Tensor) -> Tensor:
        ctx.save_for_backward(messages, field, end)
        product = _rows(field, end)
        for component in product.unbind(1):
            component.mul_(messages)
        return product.sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        messages, field, end = ctx.saved_tensors
        slope = _Contract.apply(grads[0], field, end) if ctx.needs_input_grad[0] else None
        return slope, _Outer.apply(grads[0], messages, end, field.shape[0]) if ctx.needs_input_grad[1] else None, None


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows of (n, components, width); torch is ten times slower where the rows are not contiguous."""
    return values.contiguous().index_select(0, index)
