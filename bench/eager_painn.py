"""The frozen baseline of `bench/train.py`: PaiNN as one writes it down, in plain eager torch; never made faster.

The same maths as `model.backbones.painn` with `elements: number` and `mixing`, `readout: graph`, forces by gradient, in the
manner of the published code: gates of all edges in one tensor, messages (num_edges, 3, width), `index_add`, `nn.Linear`,
torch's SiLU and AdamW. It shares no layer with `model`; `paired` says which of its numbers is which of the model's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.graph import AtomGraph
from model.multitask import MultiTaskModel

_SOFTENING = 1e-3
_Of = Callable[[Tensor], Tensor]


class EagerPainn(nn.Module):
    """The lead model of the reference: a first layer one feature wide, a wide one, and a head for each branch."""

    def __init__(self, layers: int, hidden: int, radial: int, heads: Sequence[int], branches: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff, self.radial = cutoff, radial
        self.message_scale: Tensor
        self.energy_scale: Tensor
        self.register_buffer("message_scale", torch.ones(()))
        self.register_buffer("energy_scale", torch.ones(branches))
        widths = [1] + [hidden] * layers
        self.layers = nn.ModuleList(Layer(widths[k], hidden, radial, last=k == layers - 1) for k in range(layers))
        self.heads = nn.ModuleList(mlp([hidden, *heads, 1]) for _ in range(branches))

    def forward(self, graph: AtomGraph) -> tuple[Tensor, Tensor]:
        """Return energies (num_graphs,) and forces (num_atoms, 3), differentiable in the parameters."""
        positions = graph.positions.detach().requires_grad_(True)
        energy = self.energy(graph, positions)
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return energy, -gradient

    def energy(self, graph: AtomGraph, positions: Tensor) -> Tensor:
        """Return the energy of each structure by its own branch."""
        sender, receiver = graph.edge_index
        cell = graph.cell[graph.graph[receiver]]
        vectors = positions[sender] - positions[receiver] + torch.einsum("ei,eij->ej", graph.edge_shift, cell)
        lengths = torch.sqrt(vectors.square().sum(-1) + _SOFTENING**2).unsqueeze(-1)
        x = lengths / self.cutoff
        weight = (1 - 10 * x**3 + 15 * x**4 - 6 * x**5) * (x < 1) * self.message_scale
        frequencies = math.pi * torch.arange(1, self.radial + 1, dtype=x.dtype)
        basis = torch.sin(frequencies * x) * 0.5 / x
        scalars = graph.numbers.to(positions.dtype).unsqueeze(-1)
        arrows = scalars.new_zeros(len(scalars), 3, 1)
        for layer in self.layers:
            scalars, arrows = layer(scalars, arrows, basis, weight, vectors / lengths, sender, receiver)
        pooled = scalars.new_zeros(graph.num_graphs, scalars.shape[1]).index_add(0, graph.graph, scalars)
        energy = pooled.new_zeros(graph.num_graphs)
        for branch, head in enumerate(self.heads):
            rows = (graph.branch == branch).nonzero().squeeze(-1)
            if len(rows):
                energy = energy.index_add(0, rows, head(pooled[rows]).squeeze(-1) * self.energy_scale[branch])
        return energy


class Layer(nn.Module):
    """Message, update and mixing, as published; the last layer leaves vectors out."""

    def __init__(self, width: int, hidden: int, radial: int, *, last: bool) -> None:
        super().__init__()
        self.width, self.last = width, last
        self.send = mlp([width, width, 3 * width])
        self.filter = nn.Linear(radial, 3 * width)
        self.left, self.right = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.update = mlp([2 * width, width, (2 if last else 3) * width])
        self.mix_scalars = mlp([width, hidden, hidden])
        self.mix_vectors = None if last else nn.Linear(width, hidden, bias=False)

    def forward(
        self, scalars: Tensor, arrows: Tensor, basis: Tensor, weight: Tensor, units: Tensor, sender: Tensor, receiver: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return new scalars (num_atoms, hidden) and vectors (num_atoms, 3, hidden)."""
        gates = self.filter(basis) * weight * self.send(scalars)[sender]
        message, along, across = gates.split(self.width, -1)
        directed = units.unsqueeze(-1) * along.unsqueeze(1) + arrows[sender] * across.unsqueeze(1)
        scalars = scalars + torch.zeros_like(scalars).index_add(0, receiver, message)
        arrows = arrows + torch.zeros_like(arrows).index_add(0, receiver, directed)
        left, right = self.left(arrows), self.right(arrows)
        norm = torch.sqrt(right.square().sum(1) + 1e-6)
        parts = self.update(torch.cat([scalars, norm], -1)).split(self.width, -1)
        scalars = self.mix_scalars(scalars + parts[0] * (left * right).sum(1) + parts[1])
        if self.mix_vectors is not None:
            arrows = self.mix_vectors(arrows + parts[2].unsqueeze(1) * left)
        return scalars, arrows


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers with SiLU between them."""
    steps: list[nn.Module] = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        steps += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*steps[:-1])


def plain_loss(energy: Tensor, forces: Tensor, graph: AtomGraph) -> Tensor:
    """Return the mean |ΔE/N| of structures plus ten times the mean |ΔF| of components."""
    wrong = (energy - graph.energy).abs() / graph.num_atoms
    return wrong.mean() + 10 * functional.l1_loss(forces, graph.forces)


def loaded(model: MultiTaskModel, dtype: torch.dtype) -> EagerPainn:
    """Return the baseline with the numbers of a model of ours."""
    spec, options = model.spec, model.backbone.config.model_dump()
    form = (options["layers"], options["hidden"], options["radial"])
    eager = EagerPainn(*form, heads=spec.widths, branches=len(model.branches), cutoff=spec.cutoff)
    eager = eager.to(torch.float64)
    with torch.no_grad():
        for ours, theirs in paired(model, eager):
            theirs.copy_(ours)
        eager.message_scale.copy_(model.backbone.message_scale)
        eager.energy_scale.copy_(model.energy_scale)
    return eager.to(dtype)


def paired(model: MultiTaskModel, eager: EagerPainn, *, gradients: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every number of the model beside the baseline's, in the baseline's shape; or their gradients."""

    def of(parameter: Tensor) -> Tensor:
        chosen = parameter.grad if gradients else parameter
        return torch.zeros_like(parameter) if chosen is None else chosen

    ours = {name: of(value) for name, value in model.named_parameters()}
    for k, layer in enumerate(cast(Sequence[Layer], eager.layers)):
        prefix = f"backbone.layers.{k}."
        yield from _pair_mlps(ours, layer, prefix, of)
        filters, pair = ours[prefix + "filters.weight"], ours[prefix + "pair.weight"]
        yield from ((filters[:-1].t(), of(layer.filter.weight)), (filters[-1], of(layer.filter.bias)))
        yield from zip(pair.chunk(2), (of(layer.left.weight), of(layer.right.weight)), strict=True)
        if layer.mix_vectors is not None:
            yield ours[prefix + "mix_vectors.weight"], of(layer.mix_vectors.weight)
    for name, head in zip(model.branches, eager.heads, strict=True):
        yield from _pair_mlp(ours, head, f"heads.{name}.energy.", of)


def _pair_mlps(ours: dict[str, Tensor], layer: nn.Module, prefix: str, of: _Of) -> Iterator[tuple[Tensor, Tensor]]:
    for name in ("send", "update", "mix_scalars"):
        yield from _pair_mlp(ours, getattr(layer, name), f"{prefix}{name}.", of)


def _pair_mlp(ours: dict[str, Tensor], mlp: nn.Module, prefix: str, of: _Of) -> Iterator[tuple[Tensor, Tensor]]:
    linears = [each for each in mlp.modules() if isinstance(each, nn.Linear)]
    for k, linear in enumerate(linears):
        yield ours[f"{prefix}layers.{k}.weight"], of(linear.weight)
        yield ours[f"{prefix}layers.{k}.bias"], of(linear.bias)
