"""Messages gated by a filter of the distance, as PaiNN sends them, with derivatives of every order.

On a CPU one kernel in C++ (`model/kernels/message.cpp`) makes them and their first and second derivatives, without storing
anything as wide as the edges. Elsewhere (accelerators, other precisions, no compiler), and for third derivatives, torch does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from model.kernels import build
from model.layers.edges import directed_sum, neighbor_sum

_KERNEL = "message"
_SUFFIX = {torch.float64: "f64", torch.float32: "f32"}
_MOST_FUNCTIONS = 32  # as kFunctions in the kernel
_EDGES_OF_SLICE, _MOST_SLICES = 256, 128
"""Edges that one thread takes at a time: their rows stay in its cache. Never by the number of threads: sums would change."""


@dataclass(frozen=True)
class Order:
    """The edges in the order of the atom at one of their ends.

    Attributes:
        order: Edges, (num_edges,).
        starts: Where each atom's edges start in it, (num_atoms + 1,).
        others: The atom at the other end, in that order, (num_edges,).
        bounds: Atoms at which the slices start that threads share, (num_slices + 1,).
    """

    order: Tensor
    starts: Tensor
    others: Tensor
    bounds: Tensor


@dataclass(frozen=True)
class Neighbors:
    """Who sends to whom, in both orders; made once for all layers of a pass.

    Attributes:
        edge_index: Senders and receivers, (2, num_edges).
        num_atoms: Number of atoms.
        by_receiver: None where torch does the work.
        by_sender: Likewise.
    """

    edge_index: Tensor
    num_atoms: int
    by_receiver: Order | None = None
    by_sender: Order | None = None


def neighbors_of(edge_index: Tensor, num_atoms: int, dtype: torch.dtype) -> Neighbors:
    """Return the edges as `message` wants them.

    Args:
        edge_index: Senders and receivers, (2, num_edges).
        num_atoms: Number of atoms.
        dtype: Of the features.
    """
    plain = type(edge_index) is Tensor and edge_index.device.type == "cpu" and dtype in _SUFFIX
    if not plain or build.load(_KERNEL).library is None:
        return Neighbors(edge_index, num_atoms)
    sender, receiver = edge_index
    return Neighbors(edge_index, num_atoms, _order(receiver, sender, num_atoms), _order(sender, receiver, num_atoms))


def message(geometry: Tensor, weight: Tensor, sent: Tensor, arrows: Tensor | None, neighbors: Neighbors) -> tuple[Tensor, Tensor]:
    """Return Σ_j w_0∘s_0j and Σ_j [(w_1∘s_1j)⊗u_ij + w_2∘s_2j∘v_j] at each receiver i, with w_g = Σ_r b_ij,r·W_rg.

    Args:
        geometry: Radial functions b and unit vectors u of the edges, (num_edges, functions + 3).
        weight: W, (functions, gates, width); the third gate is for vectors that come in.
        sent: s, (num_atoms, gates, width).
        arrows: v, (num_atoms, 3, width), or None.
        neighbors: The edges, by `neighbors_of`.

    Returns:
        Scalars (num_atoms, width) and vectors (num_atoms, 3, width).
    """
    if neighbors.by_receiver is None or weight.shape[0] > _MOST_FUNCTIONS:
        return _plain(neighbors, geometry, weight, sent, arrows)
    inputs = [each.contiguous() for each in (geometry, weight, sent, arrows) if each is not None]
    scalars, vectors = _Message.apply(neighbors, *inputs)
    return scalars, vectors


def _plain(
    neighbors: Neighbors, geometry: Tensor, weight: Tensor, sent: Tensor, arrows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `message` does, by torch."""
    basis, units = geometry.split([weight.shape[0], 3], 1)
    basis = basis.t().contiguous().t()  # products with tall, narrow matrices are five times slower than with their transposes
    filters = [basis @ each for each in weight.unbind(1)]
    scalars = neighbor_sum(filters[0], sent[:, :1], neighbors.edge_index).squeeze(1)
    gated = filters[1] * sent[:, 1].index_select(0, neighbors.edge_index[0])
    vectors = directed_sum(units, gated, neighbors.edge_index, neighbors.num_atoms)
    if arrows is not None:
        vectors = vectors + neighbor_sum(filters[2], sent[:, 2:] * arrows, neighbors.edge_index)
    return scalars, vectors


class _Message(Function):
    """The sums by receiver."""

    @staticmethod
    def forward(ctx: Any, neighbors: Neighbors, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.neighbors = neighbors
        ctx.save_for_backward(*inputs)
        return _receive(neighbors, inputs, ())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Slope.apply(ctx.neighbors, _wanted(ctx), *grads, *ctx.saved_tensors)


class _Slope(Function):
    """The derivative of ⟨scalars, A⟩ + ⟨vectors, D⟩ by each input."""

    @staticmethod
    def forward(ctx: Any, neighbors: Neighbors, wanted: list[bool], *tensors: Tensor) -> tuple[Tensor | None, ...]:
        ctx.neighbors = neighbors
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        bars, inputs = tensors[:2], tensors[2:]
        return _send(neighbors, bars, inputs, (), wanted)

    @staticmethod
    def backward(ctx: Any, *dots: Tensor | None) -> tuple[Tensor | None, ...]:
        bars, inputs = ctx.saved_tensors[:2], ctx.saved_tensors[2:]
        if torch.is_grad_enabled():
            return None, None, *_plain_curvature(ctx.neighbors, bars, inputs, dots)
        wanted = _wanted(ctx)
        dots = tuple(None if each is None else each.contiguous() for each in dots)
        by_bars = _receive(ctx.neighbors, inputs, dots) if any(wanted[:2]) else (None, None)
        return None, None, *by_bars, *_send(ctx.neighbors, bars, inputs, dots, wanted[2:])


def _plain_curvature(
    neighbors: Neighbors, bars: Sequence[Tensor], inputs: Sequence[Tensor], dots: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return the derivatives of Σ ⟨slope, dot⟩ by bars and inputs, by torch: they may be differentiated again."""
    tensors = [each.view_as(each) for each in (*bars, *inputs)]  # bars may come from inputs: partial derivatives are wanted
    known = [place for place, dot in enumerate(dots) if dot is not None]
    inner = tensors[2:]
    slopes = torch.autograd.grad(_plain(neighbors, *inner), [inner[k] for k in known], tensors[:2], create_graph=True)
    free = [place for place, each in enumerate(tensors) if each.requires_grad]
    found = torch.autograd.grad(
        slopes, [tensors[k] for k in free], [dots[k] for k in known], create_graph=True, allow_unused=True
    )
    placed = dict(zip(free, found, strict=True))
    return [placed.get(place) for place in range(len(tensors))]


def _wanted(ctx: Any) -> list[bool]:
    """Say of each tensor that went in whether its derivative is wanted now.

    `needs_input_grad` only says whether it ever could be: the gradient by positions would make those of all weights too.
    """
    wanted, nodes = [], iter(ctx.next_functions)
    for needed in ctx.needs_input_grad[-len(ctx.next_functions) :]:
        node = next(nodes)[0]
        wanted.append(bool(needed) and node is not None and _will_run(node))
    return wanted


def _will_run(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf that `torch.autograd.grad` is asked about: torch declines to say
        return True


class _Arguments(ctypes.Structure):
    """As `Arguments` in the kernel."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("atoms", "channels", "gates", "functions", "slices", "threads")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("order", "starts", "others", "bounds", "geometry", "weight", "sent", "arrows"),
                *("geometry_dot", "weight_dot", "sent_dot", "arrows_dot", "scalars_bar", "vectors_bar", "scalars", "vectors"),
                *("geometry_bar", "weight_bar", "sent_bar", "arrows_bar"),
            )
        ),
    )


_INPUTS = ("geometry", "weight", "sent", "arrows")


def _receive(neighbors: Neighbors, inputs: Sequence[Tensor], dots: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Return the sums by receiver; with `dots`, tangents of the inputs, their tangents."""
    assert neighbors.by_receiver is not None
    sent = inputs[2]
    scalars, vectors = sent.new_empty(sent.shape[0], sent.shape[2]), sent.new_empty(sent.shape[0], 3, sent.shape[2])
    tensors = _named(inputs, dots) | {"scalars": scalars, "vectors": vectors}
    _call("receive", neighbors.by_receiver, inputs, tensors, tangent=bool(dots))
    return scalars, vectors


def _send(
    neighbors: Neighbors, bars: Sequence[Tensor], inputs: Sequence[Tensor], dots: Sequence[Tensor | None], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the wanted derivatives by the inputs; with `dots`, their tangents."""
    assert neighbors.by_sender is not None
    unused = len(inputs) == 3 and inputs[2].shape[1] == 3  # a gate for vectors where none come in
    found = [torch.empty_like(each) if want else None for each, want in zip(inputs, wanted, strict=True)]
    if unused:
        found = [each if k == 0 or each is None else each.zero_() for k, each in enumerate(found)]
    bars = [each.contiguous() for each in bars]
    slopes = {f"{name}_bar": each for name, each in zip(_INPUTS, found, strict=False) if each is not None}
    tensors = _named(inputs, dots) | {"scalars_bar": bars[0], "vectors_bar": bars[1]} | slopes
    if found[1] is not None:
        slices = neighbors.by_sender.bounds.shape[0] - 1
        tensors["weight_bar"] = torch.zeros(slices, *inputs[1].shape, dtype=inputs[1].dtype)
    _call("send", neighbors.by_sender, inputs, tensors, tangent=bool(dots))
    if found[1] is not None:
        torch.sum(tensors["weight_bar"], 0, out=found[1])
    return tuple(found)


def _named(inputs: Sequence[Tensor], dots: Sequence[Tensor | None]) -> dict[str, Tensor]:
    named = dict(zip(_INPUTS, inputs, strict=False))
    return named | {f"{name}_dot": each for name, each in zip(_INPUTS, dots, strict=False) if each is not None}


def _call(name: str, order: Order, inputs: Sequence[Tensor], tensors: dict[str, Tensor], *, tangent: bool) -> None:
    """Run a function of the kernel.

    Raises:
        MemoryError: There is not enough for what it keeps of some hundred edges.
    """
    _, weight, sent, *_ = inputs
    arguments = _Arguments(
        *(sent.shape[0], sent.shape[2], sent.shape[1], weight.shape[0], order.bounds.shape[0] - 1, torch.get_num_threads())
    )
    for field, tensor in (tensors | vars(order)).items():
        setattr(arguments, field, tensor.data_ptr())
    function = getattr(build.load(_KERNEL).library, f"{name}{'_tangent' if tangent else ''}_{_SUFFIX[sent.dtype]}")
    if function(ctypes.byref(arguments)):
        raise MemoryError("not enough memory for the edges that a message is summed over")


def _order(ends: Tensor, others: Tensor, num_atoms: int) -> Order:
    order = torch.argsort(ends, stable=True)
    starts = torch.zeros(num_atoms + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(ends, minlength=num_atoms), 0, out=starts[1:])
    slices = min(_MOST_SLICES, ends.shape[0] // _EDGES_OF_SLICE + 1)
    cuts = torch.searchsorted(starts, torch.arange(1, slices) * (ends.shape[0] // slices))
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), cuts, torch.full((1,), num_atoms)])
    return Order(order, starts, others.index_select(0, order), bounds)
