"""PNAEq: PaiNN whose scalar messages are aggregated as a principal neighbourhood (Schütt et al., 2021; Corso et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers import principal
from model.layers.dense import MLP, Dense, Filter
from model.layers.edges import directed_sum, neighbor_sum
from model.layers.embedding import AtomEmbedding
from model.layers.radial import bessel_basis, envelope
from model.specs import ModelSpec


class Config(BaseModel):
    """Options of PNAEq; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["pnaeq"] = "pnaeq"
    layers: int = Field(3, ge=1, description="Message-passing layers.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64, ge=1, description="Features of an atom.", json_schema_extra={"search": {"low": 100, "high": 1000, "log": True}}
    )
    radial: int = Field(
        8, ge=1, description="Bessel functions of a distance.", json_schema_extra={"search": {"low": 3, "high": 12}}
    )

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        total, width = 2 * self.hidden if elements == "number" else 0, self.hidden
        for layer in range(self.layers):
            gates, outputs = 2 if layer == 0 else 3, 2 if layer == self.layers - 1 else 3
            total += width * width + width + (width + 1) * gates * width + (self.radial + 1) * gates * width
            total += (4 * width + 1) * 5 * width
            total += 2 * width * width + (2 * width + 1) * width + (width + 1) * outputs * width
        return total

    def multiply_adds(self, elements: str) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the multiply-adds of a forward pass in matrix products for each atom, each edge and each triplet."""
        gates = [2 if layer == 0 else 3 for layer in range(self.layers)]
        outputs = [2 if layer == self.layers - 1 else 3 for layer in range(self.layers)]
        atom = 29 * self.layers + sum(gates) + sum(outputs)
        return atom * self.hidden**2, (self.radial + 1) * sum(gates) * self.hidden

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, float]:  # noqa: ARG002 narrow for a moment only
        """Return the words that a training step holds for each atom and each edge; fitted to measured steps."""
        first, rest = self.hidden, (self.layers - 1) * self.hidden
        if not conservative:
            return 21.5 * first + 39.6 * rest, 9.3 * first + 6.5 * rest + 32
        wide = self.hidden if self.layers > 1 else 0
        return 95.3 * (first + rest), 19.4 * first + 15.5 * rest + 0.8 * wide + 10.5 * (self.radial + 1) + 64


@dataclass(frozen=True)
class Surroundings:
    """What a layer sees of the geometry.

    Attributes:
        plain: Radial basis under no envelope, (radial + 1, num_edges).
        basis: Radial basis under the envelope, scaled, (radial + 1, num_edges).
        weights: The envelope, (num_edges,).
        units: Unit vectors, (num_edges, 3).
        index: Senders and receivers, (2, num_edges).
        degree: Soft number of neighbours, (num_atoms,).
        scalers: What it multiplies aggregates by, (num_atoms, 5, 1).
    """

    plain: Tensor
    basis: Tensor
    weights: Tensor
    units: Tensor
    index: Tensor
    degree: Tensor
    scalers: Tensor


class Backbone(base.Backbone):
    """PaiNN with mean, deviation and soft extremes of messages under five scalers of a soft degree."""

    neighbor_statistics = {"degree": principal.soft_degree, "log_degree": principal.log_degree}  # noqa: RUF012 ClassVar in base

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width, self.radial = config.hidden, config.radial
        self.average_degree: Tensor
        self.average_log_degree: Tensor
        for name in self.neighbor_statistics:
            self.register_buffer(f"average_{name}", torch.tensor(neighborhood.mean(name), dtype=torch.float64))
        self.embedding = AtomEmbedding(spec.elements, 1 if spec.elements == "number" else self.width, spec.charge_spin)
        self.widen = Dense(1, self.width) if spec.elements == "number" else None
        last = config.layers - 1
        self.layers = nn.ModuleList(Layer(config, first=k == 0, last=k == last) for k in range(config.layers))

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return (num_atoms, width); see the contract."""
        surroundings = self._surroundings(graph, vectors, lengths)
        scalars, arrows = self.embedding(graph), None
        if self.widen is not None:
            scalars = self.widen(scalars)
        for layer in self.layers:
            scalars, arrows = layer(scalars, arrows, surroundings)
        return scalars

    def _surroundings(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Surroundings:
        weights, plain = envelope(lengths, self.cutoff), bessel_basis(lengths, self.cutoff, self.radial)
        degree = principal.soft_degree(lengths, graph.edge_index[1], len(graph.numbers), self.cutoff)
        return Surroundings(
            plain=plain,
            basis=plain * (weights * self.message_scale),
            weights=weights,
            units=vectors / lengths.unsqueeze(-1),
            index=graph.edge_index,
            degree=degree,
            scalers=principal.scalers(degree, self.average_degree, self.average_log_degree),
        )


class Layer(nn.Module):
    """One round: messages between atoms, and an update within each.

    Args:
        config: The backbone's options.
        first: No vector features come in, so that nothing gates them.
        last: No vector features go out, so that nothing makes them.
    """

    def __init__(self, config: Config, *, first: bool, last: bool) -> None:
        super().__init__()
        width, gates = config.hidden, 2 if first else 3
        self.width, self.last = width, last
        self.send = MLP([width, width, gates * width])
        self.message = Filter(config.radial, width)
        self.filters = Filter(config.radial, width, gates - 1)
        self.gather = Dense(principal.AGGREGATORS * width, principal.SCALERS * width)
        self.pair = Dense(width, 2 * width, bias=False)
        self.update = MLP([2 * width, width, (2 if last else 3) * width])

    def forward(self, scalars: Tensor, arrows: Tensor | None, around: Surroundings) -> tuple[Tensor, Tensor | None]:
        """Return scalars (num_atoms, hidden) and vectors (num_atoms, 3, hidden); no vectors from the last layer."""
        sent = self.send(scalars).split(self.width, -1)
        scalars = scalars + self._aggregate(sent[0], around)
        vectors = self._vectors(sent[1:], arrows, around)
        left, right = self.pair(vectors).chunk(2, -1)
        norm = torch.sqrt((right * right).sum(1) + 1e-6)  # the constant keeps derivatives finite where no edge is
        gates = self.update(torch.cat([scalars, norm], -1)).split(self.width, -1)
        scalars = scalars + gates[0] * (left * right).sum(1) + gates[1]
        return scalars, None if self.last else vectors + gates[2].unsqueeze(1) * left

    def _aggregate(self, sent: Tensor, around: Surroundings) -> Tensor:
        """Return what the scalars gain, (num_atoms, hidden); outputs are scaled, because scaled inputs are four times wider."""
        messages = torch.tanh(self.message(around.plain)[0] * sent.index_select(0, around.index[0]))
        gathered = self.gather(principal.aggregate(messages, around.weights, around.index[1], around.degree))
        return (gathered.unflatten(-1, (principal.SCALERS, self.width)) * around.scalers).sum(1)

    def _vectors(self, sent: tuple[Tensor, ...], arrows: Tensor | None, around: Surroundings) -> Tensor:
        weights = self.filters(around.basis)
        messages = weights[0] * sent[0].index_select(0, around.index[0])
        vectors = directed_sum(around.units, messages, around.index, sent[0].shape[0])
        if arrows is None:
            return vectors
        return vectors + arrows + neighbor_sum(weights[1], sent[1].unsqueeze(1) * arrows, around.index)
