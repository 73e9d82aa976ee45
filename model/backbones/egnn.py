"""EGNN: messages from a network of both atoms' features and their distance (Satorras et al., ICML 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers.activation import silu
from model.layers.dense import MLP, Dense, Filter
from model.layers.embedding import AtomEmbedding
from model.layers.radial import radial_basis
from model.specs import ModelSpec


class Config(BaseModel):
    """Options of EGNN; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["egnn"] = "egnn"
    layers: int = Field(3, ge=1, description="Message-passing layers.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64, ge=1, description="Features of an atom.", json_schema_extra={"search": {"low": 100, "high": 3000, "log": True}}
    )
    radial: int = Field(
        8, ge=1, description="Bessel functions of a distance.", json_schema_extra={"search": {"low": 3, "high": 12}}
    )

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        hidden, narrow = self.hidden, 1 if elements == "number" else self.hidden
        widen = 2 * hidden if elements == "number" else 0
        message = 2 * hidden * hidden + hidden + (self.radial + 1) * hidden + hidden * hidden + hidden
        update = 2 * hidden * hidden + hidden + hidden * hidden + hidden
        return widen * narrow + self.layers * (message + update)

    def multiply_adds(self, elements: str) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the multiply-adds of a forward pass in matrix products for each atom, each edge and each triplet."""
        square = self.hidden**2
        return 5 * self.layers * square, self.layers * ((self.radial + 1) * self.hidden + square)

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, float]:  # noqa: ARG002 narrow for a moment only
        """Return the words that a training step holds for each atom and each edge; fitted to measured steps."""
        wide = self.layers * self.hidden
        if not conservative:
            return 6.7 * wide, 6.0 * wide + 14
        return 10.5 * wide, 13.9 * wide + 3.8 * self.hidden + 9 * (self.radial + 1) + 10


class Backbone(base.Backbone):
    """EGNN without the coordinate update, which an energy does not need; geometry enters as distances only."""

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width, self.radial = config.hidden, config.radial
        self.embedding = AtomEmbedding(spec.elements, 1 if spec.elements == "number" else self.width, spec.charge_spin)
        self.widen = Dense(1, self.width) if spec.elements == "number" else None
        self.layers = nn.ModuleList(Layer(config.hidden, config.radial) for _ in range(config.layers))

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002 distances only
        """Return (num_atoms, width); see the contract."""
        basis = radial_basis(lengths, self.cutoff, self.radial)
        weight = basis[-1].unsqueeze(-1) * self.message_scale
        features = self.embedding(graph)
        if self.widen is not None:
            features = self.widen(features)
        for layer in self.layers:
            features = layer(features, basis, weight, graph.edge_index)
        return features


class Layer(nn.Module):
    """One round of messages; the first product of the message network is split by atom, so that it is one of atoms."""

    def __init__(self, hidden: int, radial: int) -> None:
        super().__init__()
        self.receiver = Dense(hidden, hidden)
        self.sender = Dense(hidden, hidden, bias=False)
        self.distance = Filter(radial, hidden)
        self.message = Dense(hidden, hidden)
        self.update = MLP([2 * hidden, hidden, hidden])

    def forward(self, features: Tensor, basis: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
        """Return the new features (num_atoms, hidden)."""
        sender, receiver = edge_index
        ends = self.receiver(features).index_select(0, receiver) + self.sender(features).index_select(0, sender)
        message = silu(self.message(silu(self.distance(basis)[0] + ends))) * weight
        total = base.gather_sum(message, receiver, features.shape[0])
        return features + self.update(torch.cat([features, total], -1))
