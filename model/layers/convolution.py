"""Sums over neighbours of their tensors coupled with the edges' directions; no product as wide as the edges is kept.

The sum is a partial derivative of a form that is linear in each of four arguments; all its derivatives are other partials.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_WORDS_AT_ONCE = {"cpu": 1 << 18}
"""Words of the widest product that is made at once, by device: on a CPU more falls out of a core's cache (twice as slow at
2²⁰), and an accelerator wants enough to be busy."""
_WORDS_ELSEWHERE = 1 << 23


@dataclass(frozen=True)
class Plan:
    """What belongs to what.

    Attributes:
        edge_index: Senders and receivers, (2, num_edges).
        rows: Rows of the product that each path makes; together, all of them in order.
    """

    edge_index: Tensor
    rows: tuple[slice, ...]


def convolve(weights: Tensor, matrices: Tensor, sent: Tensor, plan: Plan) -> Tensor:
    """Return Σ_j w_ij,p(r)·Σ_m K_ij,rm·h_jm at each receiver i.

    Args:
        weights: w, (num_edges, num_paths, channels).
        matrices: K, (num_edges, num_rows, components).
        sent: h, (num_atoms, components, channels).
        plan: Edges and paths.

    Returns:
        (num_atoms, num_rows, channels).
    """
    total: Tensor = _Partial.apply(_RECEIVED, plan, weights, matrices, sent)
    return total


_WEIGHTS, _MATRICES, _SENT, _RECEIVED = range(4)


class _Partial(Function):
    """The derivative of Σ_e Σ_r ⟨w_e,p(r)·Σ_m K_e,rm·h_m[from_e], b_r[to_e]⟩ by one of w, K, h and b, of the other three."""

    @staticmethod
    def forward(ctx: Any, slot: int, plan: Plan, *others: Tensor) -> Tensor:
        ctx.save_for_backward(*others)
        ctx.slot, ctx.plan = slot, plan
        return _KERNELS[slot](plan, *(each.contiguous() for each in others))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values = list(ctx.saved_tensors)
        values.insert(ctx.slot, grads[0])
        slots = [slot for slot in range(4) if slot != ctx.slot]
        found = [
            _Partial.apply(slot, ctx.plan, *(value for place, value in enumerate(values) if place != slot)) if needed else None
            for slot, needed in zip(slots, ctx.needs_input_grad[2:], strict=True)
        ]
        return None, None, *found


def _by_weights(plan: Plan, matrices: Tensor, sent: Tensor, received: Tensor) -> Tensor:
    total = sent.new_empty(matrices.shape[0], len(plan.rows), sent.shape[2])
    for part, sender, receiver in _parts(plan, received):
        product = _apply(matrices[part], sent.index_select(0, sender)).mul_(received.index_select(0, receiver))
        for path, rows in enumerate(plan.rows):
            torch.sum(product[:, rows], 1, out=total[part, path])
    return total


def _by_matrices(plan: Plan, weights: Tensor, sent: Tensor, received: Tensor) -> Tensor:
    total = sent.new_empty(weights.shape[0], received.shape[1], sent.shape[1])
    for part, sender, receiver in _parts(plan, received):
        product = _weigh(received.index_select(0, receiver), weights[part], plan)
        torch.bmm(product, sent.index_select(0, sender).transpose(1, 2), out=total[part])
    return total


def _by_sent(plan: Plan, weights: Tensor, matrices: Tensor, received: Tensor) -> Tensor:
    total = received.new_zeros(received.shape[0], matrices.shape[2], received.shape[2])
    for part, sender, receiver in _parts(plan, received):
        product = _weigh(received.index_select(0, receiver), weights[part], plan)
        total.index_add_(0, sender, torch.bmm(matrices[part].transpose(1, 2), product))
    return total


def _by_received(plan: Plan, weights: Tensor, matrices: Tensor, sent: Tensor) -> Tensor:
    total = sent.new_zeros(sent.shape[0], matrices.shape[1], sent.shape[2])
    for part, sender, receiver in _parts(plan, total):
        product = _apply(matrices[part], sent.index_select(0, sender))
        total.index_add_(0, receiver, _weigh(product, weights[part], plan))
    return total


_KERNELS = (_by_weights, _by_matrices, _by_sent, _by_received)


def _parts(plan: Plan, received: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield edges a few at a time: where they stand, their senders and receivers."""
    words = _WORDS_AT_ONCE.get(received.device.type, _WORDS_ELSEWHERE)
    count = max(1, words // (received.shape[1] * received.shape[2]))
    for start in range(0, plan.edge_index.shape[1], count):
        part = slice(start, start + count)
        yield part, plan.edge_index[0, part], plan.edge_index[1, part]


def _apply(matrices: Tensor, tensors: Tensor) -> Tensor:
    return matrices * tensors if tensors.shape[1] == 1 else torch.bmm(matrices, tensors)


def _weigh(product: Tensor, weights: Tensor, plan: Plan) -> Tensor:
    for path, rows in enumerate(plan.rows):
        product[:, rows].mul_(weights[:, path : path + 1])
    return product
