"""DimeNet++: messages live on edges and hear of one another by the angle between them (Gasteiger et al., arXiv 2011.14115)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers.activation import silu
from model.layers.dense import Dense, Filter, draw_uniform
from model.layers.edges import neighbor_sum
from model.layers.embedding import AtomEmbedding
from model.layers.spherical import bessel_roots, bessel_scales, closing_envelope, legendre, spherical_bessel
from model.layers.triplets import expand, triplets
from model.specs import ModelSpec


class Config(BaseModel):
    """Options of DimeNet++; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["dimenet"] = "dimenet"
    layers: int = Field(3, ge=1, description="Interaction blocks.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64,
        ge=1,
        description="Features of an edge's message, and of an atom.",
        json_schema_extra={"search": {"low": 10, "high": 100, "log": True}},
    )
    radial: int = Field(
        6, ge=1, description="Bessel functions of a distance.", json_schema_extra={"search": {"low": 3, "high": 12}}
    )
    spherical: int = Field(7, ge=1, description="Degrees of an angle.", json_schema_extra={"search": {"low": 2, "high": 8}})
    envelope: int = Field(
        5,
        ge=1,
        description="The envelope leaves 1 as the distance to this power plus one, as torch-geometric counts.",
        json_schema_extra={"search": {"low": 4, "high": 6}},
    )
    basis_embedding: int = Field(
        8,
        ge=1,
        description="Numbers that distance and angle of a triplet are narrowed to.",
        json_schema_extra={"search": {"low": 8, "high": 200, "log": True}},
    )
    interaction_embedding: int = Field(
        64,
        ge=1,
        description="Features that pass from edge to edge.",
        json_schema_extra={"search": {"low": 16, "high": 500, "log": True}},
    )
    output_embedding: int = Field(
        128,
        ge=1,
        description="Features within an output block.",
        json_schema_extra={"search": {"low": 24, "high": 4000, "log": True}},
    )
    before_skip: int = Field(
        1, ge=0, description="Residual blocks before the skip connection.", json_schema_extra={"search": {"low": 0, "high": 2}}
    )
    after_skip: int = Field(
        2, ge=0, description="Residual blocks after the skip connection.", json_schema_extra={"search": {"low": 0, "high": 2}}
    )

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        hidden, passed, out = self.hidden, self.interaction_embedding, self.output_embedding
        square = hidden * hidden + hidden
        widen = 2 * hidden if elements == "number" else 0
        start = hidden * hidden + square + (self.radial + 1) * hidden
        angular = self.spherical * self.radial * self.basis_embedding + self.basis_embedding * passed
        through = 2 * square + (self.radial + 1) * hidden + 2 * hidden * passed + angular
        residual = (2 * self.before_skip + 2 * self.after_skip + 1) * square
        output = (self.radial + 1) * hidden + hidden * out + out * out + out + out * hidden
        return widen + start + self.layers * (through + residual + output)

    def multiply_adds(self, elements: str) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the multiply-adds of a forward pass in matrix products for each atom, each edge and each triplet."""
        hidden, passed, narrow, out = self.hidden, self.interaction_embedding, self.basis_embedding, self.output_embedding
        square, distance = hidden * hidden, (self.radial + 1) * hidden
        blocks = 2 * self.before_skip + 2 * self.after_skip + 3
        layer = blocks * square + 2 * distance + 2 * hidden * passed + self.spherical * self.radial * narrow
        atom = 2 * square + self.layers * (2 * hidden * out + out * out)
        return atom, distance + self.layers * layer, self.layers * narrow * passed

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the words that a training step holds for each atom, each edge and each triplet; fitted to measured steps."""
        passed, narrow, blocks = self.interaction_embedding, self.basis_embedding, self.before_skip + self.after_skip
        wide, basis = self.layers * self.hidden, self.spherical * self.radial
        angular = self.layers * self.spherical * narrow
        if not conservative:
            triplet = 1.2 * self.layers * (passed + narrow) + 2.4 * passed
            edge = (13.4 + 3.7 * blocks) * wide + 3.3 * self.layers * passed + 2.5 * basis + angular
            return 1.4 * self.layers * self.output_embedding + 7.1 * wide, edge, triplet
        triplet = 2.1 * self.layers * (passed + narrow) + 2.0 * passed + 1.2 * narrow + 7.5 * self.spherical
        edge = (27.6 + 12.2 * blocks) * wide + 9.8 * self.layers * passed + 6.5 * self.hidden + 3.7 * basis + 2.0 * angular
        return 9.0 * self.layers * self.output_embedding, edge, triplet


@dataclass(frozen=True)
class Edges:
    """What a layer sees of the geometry.

    Attributes:
        waves: Spherical Bessel functions of each degree under the envelope, (spherical, num_edges, radial).
        radial: Those of degree zero, and the envelope, (radial + 1, num_edges).
        closing: The envelope, (num_edges, 1).
        angles: Legendre polynomials of each triplet, (spherical, num_triplets).
        triplets: Edges that come in and go out, (2, num_triplets).
        index: Senders and receivers, (2, num_edges).
        scale: One over the root of the mean number of neighbours.
    """

    waves: Tensor
    radial: Tensor
    closing: Tensor
    angles: Tensor
    triplets: Tensor
    index: Tensor
    scale: Tensor


class Backbone(base.Backbone):
    """DimeNet++: an atom's features are its embedding and what each layer's edges add."""

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width, self.power = config.hidden, config.envelope + 1
        self.roots: Tensor
        self.scales: Tensor
        for name, rows in (("roots", bessel_roots), ("scales", bessel_scales)):
            numbers = torch.tensor(rows(config.spherical, config.radial), dtype=torch.float64)
            self.register_buffer(name, numbers.unsqueeze(1), persistent=False)
        self.embedding = AtomEmbedding(spec.elements, 1 if spec.elements == "number" else self.width, spec.charge_spin)
        self.widen = Dense(1, self.width) if spec.elements == "number" else None
        self.start = Start(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.outputs = nn.ModuleList(Output(config) for _ in range(config.layers))

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return (num_atoms, width); see the contract."""
        edges = self._edges(graph, vectors, lengths)
        features = self.embedding(graph)
        if self.widen is not None:
            features = self.widen(features)
        messages = self.start(features, edges)
        for layer, output in zip(self.layers, self.outputs, strict=True):
            messages = layer(messages, edges)
            features = features + output(messages, edges, features.shape[0])
        return features

    def _edges(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Edges:
        pairs = triplets(graph)
        units = vectors / lengths.unsqueeze(-1)
        cosine = -(units.index_select(0, pairs[0]) * units.index_select(0, pairs[1])).sum(-1)
        closing = closing_envelope(lengths, self.cutoff, self.power).unsqueeze(-1)
        x = lengths.unsqueeze(-1) / self.cutoff
        waves = torch.stack([spherical_bessel(order, x * roots) for order, roots in enumerate(self.roots)])
        waves = waves * self.scales * closing
        return Edges(
            waves=waves,
            radial=torch.cat([waves[0], closing], -1).t(),
            closing=closing,
            angles=legendre(cosine, waves.shape[0]),
            triplets=pairs,
            index=graph.edge_index,
            scale=self.message_scale,
        )


class Start(nn.Module):
    """The first message of an edge, from its two atoms and its length; the wide product is one of atoms."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.receiver = Dense(config.hidden, config.hidden)
        self.sender = Dense(config.hidden, config.hidden, bias=False)
        self.distance = Filter(config.radial, config.hidden)

    def forward(self, features: Tensor, edges: Edges) -> Tensor:
        """Return (num_edges, hidden)."""
        sender, receiver = edges.index
        ends = self.receiver(features).index_select(0, receiver) + self.sender(features).index_select(0, sender)
        return silu(self.distance(edges.radial)[0] + ends)


class Layer(nn.Module):
    """One round: each message takes up those that come into its sender, weighed by distance and angle.

    What comes in is closed by the envelope of the edge that it comes by, and of the edge that it goes out by.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden, passed = config.hidden, config.interaction_embedding
        self.stay = Dense(hidden, hidden)
        self.passing = Dense(hidden, hidden)
        self.distance = Filter(config.radial, hidden)
        self.narrow = Dense(hidden, passed, bias=False)
        self.angle = AngleFilter(config.spherical, config.radial, config.basis_embedding)
        self.weigh = Dense(config.basis_embedding, passed, bias=False)
        self.widen = Dense(passed, hidden, bias=False)
        self.before = nn.ModuleList(Residual(hidden) for _ in range(config.before_skip))
        self.skip = Dense(hidden, hidden)
        self.after = nn.ModuleList(Residual(hidden) for _ in range(config.after_skip))

    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        """Return the new messages (num_edges, hidden)."""
        hidden = silu(self.stay(messages)) + silu(self.widen(self._arrived(messages, edges)))
        for block in self.before:
            hidden = block(hidden)
        hidden = messages + silu(self.skip(hidden))
        for block in self.after:
            hidden = block(hidden)
        return hidden

    def _arrived(self, messages: Tensor, edges: Edges) -> Tensor:
        passing = silu(self.passing(messages)) * self.distance(edges.radial)[0]
        passing = silu(self.narrow(passing))
        weights = self.weigh(self.angle(edges))
        return neighbor_sum(weights, passing.unsqueeze(1), edges.triplets).squeeze(1) * (edges.closing * edges.scale)


class AngleFilter(nn.Module):
    """A linear map of a triplet's basis, of distance k → j and angle k → j → i, to a few numbers.

    What depends on the distance alone is summed for each edge, before triplets are made of it.

    Args:
        spherical: Degrees.
        radial: Functions of the distance for each degree.
        width: Numbers that come out.
    """

    def __init__(self, spherical: int, radial: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(spherical, radial, width))

    def initialize(self, generator: torch.Generator) -> None:
        """Draw Glorot-uniform weights."""
        spherical, radial, width = self.weight.shape
        draw_uniform(self.weight, math.sqrt(6.0 / (spherical * radial + width)), generator)

    def forward(self, edges: Edges) -> Tensor:
        """Return (num_triplets, width)."""
        return expand(edges.angles, torch.bmm(edges.waves, self.weight), edges.triplets[0])


class Residual(nn.Module):
    """Two dense layers, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = Dense(width, width)
        self.outer = Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width) to the same."""
        return x + silu(self.outer(silu(self.inner(x))))


class Output(nn.Module):
    """What the messages say to the atom that they reach."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.distance = Filter(config.radial, config.hidden)
        self.widen = Dense(config.hidden, config.output_embedding, bias=False)
        self.inner = Dense(config.output_embedding, config.output_embedding)
        self.narrow = Dense(config.output_embedding, config.hidden, bias=False)

    def forward(self, messages: Tensor, edges: Edges, num_atoms: int) -> Tensor:
        """Return (num_atoms, hidden)."""
        heard = base.gather_sum(messages * self.distance(edges.radial)[0], edges.index[1], num_atoms)
        return self.narrow(silu(self.inner(self.widen(heard * edges.scale))))
