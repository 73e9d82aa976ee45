"""PaiNN: scalar and vector features of atoms, coupled by messages linear in the sender (Schütt et al., ICML 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers.dense import MLP, Dense, Filter
from model.layers.embedding import AtomEmbedding
from model.layers.message import Neighbors, message, neighbors_of
from model.layers.radial import radial_basis
from model.specs import ModelSpec


class Config(BaseModel):
    """Options of PaiNN; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["painn"] = "painn"
    layers: int = Field(3, ge=1, description="Message-passing layers.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64, ge=1, description="Features of an atom.", json_schema_extra={"search": {"low": 100, "high": 1000, "log": True}}
    )
    radial: int = Field(
        8, ge=1, description="Bessel functions of a distance.", json_schema_extra={"search": {"low": 3, "high": 12}}
    )
    mixing: bool = Field(False, description="Two more products of atoms after each layer, as HydraGNN has them.")

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        total, width = 0, 1 if elements == "number" else self.hidden
        for layer in range(self.layers):
            first, last = layer == 0 and elements != "number", layer == self.layers - 1
            gates = 2 if first else 3
            total += width * width + width + (width + 1) * gates * width + (self.radial + 1) * gates * width
            outputs = 2 if last else 3
            total += 2 * width * width + (2 * width + 1) * width + (width + 1) * outputs * width
            if self.mixing or width != self.hidden:
                total += (width + 1) * self.hidden + (self.hidden + 1) * self.hidden + (0 if last else width * self.hidden)
            width = self.hidden
        return total

    def multiply_adds(self, elements: str) -> tuple[float, ...]:
        """Return the multiply-adds of a forward pass in matrix products for each atom, each edge and each triplet."""
        atom, edge, width = 0, 0, 1 if elements == "number" else self.hidden
        for layer in range(self.layers):
            gates = 2 if layer == 0 and elements != "number" else 3
            last = layer == self.layers - 1
            atom += (9 + gates + (2 if last else 3)) * width * width
            edge += (self.radial + 1) * gates * width
            if self.mixing or width != self.hidden:
                atom += (width + self.hidden + (0 if last else 3 * width)) * self.hidden
            width = self.hidden
        return atom, edge

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, float]:
        """Return the words that a training step holds for each atom and each edge; fitted to measured steps."""
        first = 1 if elements == "number" else self.hidden
        rest = (self.layers - 1) * self.hidden
        mixed = self.hidden * (self.layers if self.mixing else int(elements == "number"))
        if not conservative:
            return 26 * (first + rest) + 4.7 * mixed, 3.2 * first + 7.2 * rest
        wide = self.hidden if self.layers > 1 else first
        return 47 * first + 62 * rest + 10 * mixed, 4.2 * first + 11.3 * rest + 4.7 * wide + 8 * (self.radial + 1) + 34


@dataclass(frozen=True)
class Edges:
    """What a layer sees of the geometry.

    Attributes:
        geometry: Radial basis under the envelope, and unit vectors, (num_edges, radial + 1 + 3).
        neighbors: Who sends to whom.
    """

    geometry: Tensor
    neighbors: Neighbors


class Backbone(base.Backbone):
    """PaiNN; with `elements: number` the first layer is one feature wide, as in HydraGNN."""

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width, self.radial = config.hidden, config.radial
        narrow = 1 if spec.elements == "number" else config.hidden
        self.embedding = AtomEmbedding(spec.elements, narrow, spec.charge_spin)
        self.layers = nn.ModuleList()
        for index in range(config.layers):
            first, last = index == 0 and spec.elements != "number", index == config.layers - 1
            self.layers.append(Layer(narrow, config, first=first, last=last))
            narrow = config.hidden

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return (num_atoms, width); see the contract."""
        basis = radial_basis(lengths, self.cutoff, self.radial) * self.message_scale
        geometry = torch.cat([basis.t(), vectors / lengths.unsqueeze(-1)], 1)
        edges = Edges(geometry, neighbors_of(graph.edge_index, len(graph.numbers), lengths.dtype))
        scalars, arrows = self.embedding(graph), None
        for layer in self.layers:
            scalars, arrows = layer(scalars, arrows, edges)
        return scalars


class Layer(nn.Module):
    """One round: a message between atoms, an update within each, and the mixing where the form has it.

    Args:
        width: Features that come in.
        config: The backbone's options; `hidden` features go out.
        first: No vector features come in, so that nothing gates them.
        last: No vector features go out, so that nothing makes them.
    """

    def __init__(self, width: int, config: Config, *, first: bool, last: bool) -> None:
        super().__init__()
        gates = 2 if first else 3
        self.width, self.first, self.last = width, first, last
        self.send = MLP([width, width, gates * width])
        self.filters = Filter(config.radial, width, gates)
        self.pair = Dense(width, 2 * width, bias=False)
        self.update = MLP([2 * width, width, (2 if last else 3) * width])
        mixed = config.mixing or width != config.hidden
        self.mix_scalars = MLP([width, config.hidden, config.hidden]) if mixed else None
        self.mix_vectors = Dense(width, config.hidden, bias=False) if mixed and not last else None

    def forward(self, scalars: Tensor, arrows: Tensor | None, edges: Edges) -> tuple[Tensor, Tensor | None]:
        """Return scalars (num_atoms, hidden) and vectors (num_atoms, 3, hidden); no vectors from the last layer."""
        scalars, vectors = self._message(scalars, arrows, edges)
        left, right = self.pair(vectors).chunk(2, -1)
        norm = torch.sqrt((right * right).sum(1) + 1e-6)  # the constant keeps derivatives finite where no edge is
        gates = self.update(torch.cat([scalars, norm], -1)).split(self.width, -1)
        scalars = scalars + gates[0] * (left * right).sum(1) + gates[1]
        arrows = None if self.last else vectors + gates[2].unsqueeze(1) * left
        if self.mix_scalars is not None:
            scalars = self.mix_scalars(scalars)
        if self.mix_vectors is not None:
            arrows = self.mix_vectors(arrows)
        return scalars, arrows

    def _message(self, scalars: Tensor, arrows: Tensor | None, edges: Edges) -> tuple[Tensor, Tensor]:
        sent, weight = self.send(scalars).unflatten(1, (-1, self.width)), self.filters.weight.unflatten(1, (-1, self.width))
        added, vectors = message(edges.geometry, weight, sent, arrows, edges.neighbors)
        return scalars + added, vectors if arrows is None else vectors + arrows
