"""SchNet: neighbours' features weighed by a network of their distance (Schütt et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers.activation import silu
from model.layers.dense import MLP, Dense, Filter
from model.layers.edges import neighbor_sum
from model.layers.embedding import AtomEmbedding
from model.layers.gaussian import gaussian_basis
from model.layers.radial import envelope
from model.specs import ModelSpec


class Config(BaseModel):
    """Options of SchNet; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["schnet"] = "schnet"
    layers: int = Field(3, ge=1, description="Interaction blocks.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64, ge=1, description="Features of an atom.", json_schema_extra={"search": {"low": 100, "high": 3000, "log": True}}
    )
    filters: int = Field(
        64, ge=1, description="Features of a message.", json_schema_extra={"search": {"low": 6, "high": 300, "log": True}}
    )
    gaussians: int = Field(
        32, ge=2, description="Gaussians of a distance.", json_schema_extra={"search": {"low": 3, "high": 100, "log": True}}
    )

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        hidden, filters = self.hidden, self.filters
        distance = (self.gaussians + 1) * filters + (filters + 1) * filters
        atoms = hidden * filters + (filters + 1) * hidden + (hidden + 1) * hidden
        return (2 * hidden if elements == "number" else 0) + self.layers * (distance + atoms)

    def multiply_adds(self, elements: str) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the multiply-adds of a forward pass in matrix products for each atom, each edge and each triplet."""
        hidden, filters = self.hidden, self.filters
        return self.layers * hidden * (2 * filters + hidden), self.layers * filters * (self.gaussians + 1 + filters)

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, float]:  # noqa: ARG002 narrow for a moment only
        """Return the words that a training step holds for each atom and each edge; fitted to measured steps."""
        hidden, filters, every = self.hidden, self.filters, self.layers * self.filters
        if not conservative:
            return 3.6 * self.layers * hidden + 2.3 * hidden + 3 * filters, 4.1 * every + 0.3 * filters + self.gaussians + 9
        per_atom = 7.7 * self.layers * hidden + 2.6 * hidden + 3.1 * every
        return per_atom, 10.1 * every + 3.3 * filters + 8.5 * self.gaussians + 20


class Backbone(base.Backbone):
    """SchNet under the C² envelope, with SiLU for the shifted softplus; geometry enters as distances only."""

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width, self.gaussians = config.hidden, config.gaussians
        self.embedding = AtomEmbedding(spec.elements, 1 if spec.elements == "number" else self.width, spec.charge_spin)
        self.widen = Dense(1, self.width) if spec.elements == "number" else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002 distances only
        """Return (num_atoms, width); see the contract."""
        basis = gaussian_basis(lengths, self.cutoff, self.gaussians)
        weight = envelope(lengths, self.cutoff).unsqueeze(-1) * self.message_scale
        features = self.embedding(graph)
        if self.widen is not None:
            features = self.widen(features)
        for layer in self.layers:
            features = layer(features, basis, weight, graph.edge_index)
        return features


class Layer(nn.Module):
    """One interaction block: a convolution with a filter made from distances, then two products of atoms."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.send = Dense(config.hidden, config.filters, bias=False)
        self.distance = Filter(config.gaussians, config.filters)
        self.filter = Dense(config.filters, config.filters)
        self.update = MLP([config.filters, config.hidden, config.hidden])

    def forward(self, features: Tensor, basis: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
        """Return the new features (num_atoms, hidden)."""
        filters = self.filter(silu(self.distance(basis)[0])) * weight
        total = neighbor_sum(filters, self.send(features).unsqueeze(1), edge_index).squeeze(1)
        return features + self.update(total)
