"""MACE: messages of many bodies, by products of an atom's surroundings with themselves (Batatia et al., NeurIPS 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from e3nn import o3
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from model.backbones import base
from model.graph import AtomGraph
from model.layers.activation import silu
from model.layers.contraction import Contraction
from model.layers.convolution import Plan, convolve
from model.layers.coupling import paths, rows_of
from model.layers.dense import Dense, Filter, draw_uniform
from model.layers.distance import Distance
from model.layers.embedding import AtomEmbedding
from model.specs import ModelSpec

_GAIN = 4.0
"""Makes up for SiLU, which halves small numbers: untrained forces are then 0.03–2 eV/Å, whether two layers of degree 2 or
six of degree 3. At 1 products start at nothing, and forces in metals were not learned in equal time; at 8 large models
start at 75 eV/Å."""


class Config(BaseModel):
    """Options of MACE; `search` gives the range that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    radial_hidden: ClassVar[int] = 64
    """Width of the network that weighs an edge's paths."""
    rank: ClassVar[int] = 16
    """Numbers of an atom that the weights of its products are linear in."""
    contracted: ClassVar[dict[tuple[int, int], tuple[int, ...]]] = {
        (2, 1): (20, 112, 360),
        (2, 2): (90, 540, 2025, 4032),
        (2, 3): (272, 1728, 6768, 14592),
        (3, 1): (76, 258, 734),
        (3, 2): (1116, 2952, 7218, 14553),
        (3, 3): (6352, 17944, 39792, 80168),
    }
    """Numbers in the matrices of an atom's products, by correlation and `max_ell`, for each degree that is given."""
    name: Literal["mace"] = "mace"
    layers: int = Field(2, ge=1, description="Message-passing layers.", json_schema_extra={"search": {"low": 2, "high": 6}})
    hidden: int = Field(
        64,
        ge=1,
        description="Channels, and features of an atom.",
        json_schema_extra={"search": {"low": 100, "high": 1000, "log": True}},
    )
    radial: int = Field(8, ge=1, description="Functions of a distance.", json_schema_extra={"search": {"low": 3, "high": 12}})
    basis: Literal["bessel", "gaussian", "chebyshev"] = Field(
        "bessel",
        description="Which functions.",
        json_schema_extra={"search": {"choices": ["bessel", "gaussian", "chebyshev"]}},
    )
    transform: Literal["none", "agnesi", "soft"] = Field(
        "none",
        description="Of the distance, by the covalent radii of its atoms.",
        json_schema_extra={"search": {"choices": ["agnesi", "soft"]}},
    )
    max_ell: int = Field(
        2, ge=1, le=3, description="Largest degree of a direction.", json_schema_extra={"search": {"low": 2, "high": 3}}
    )
    node_max_ell: int = Field(
        1, ge=0, le=3, description="Largest degree that atoms send.", json_schema_extra={"search": {"low": 1, "high": 3}}
    )
    correlation: int = Field(
        2, ge=2, le=3, description="Most neighbours in one product.", json_schema_extra={"search": {"low": 2, "high": 3}}
    )

    @model_validator(mode="after")
    def _is_taken_up(self) -> Config:
        if self.node_max_ell > 2 * self.max_ell:
            raise ValueError(f"atoms cannot take up degree {self.node_max_ell} from directions of degree {self.max_ell}")
        return self

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        square, trunk = self.hidden**2, (self.radial + self.radial_hidden + 2) * self.radial_hidden
        total = self.hidden * (self.rank + (2 if elements == "number" else 0)) + self.rank
        for layer in range(self.layers):
            sent, given = self.degrees(layer)
            paths = sum(len(self.paths(degree)) for degree in range(sent + 1))
            linear = sent + given + min(sent, given) + 3
            products = sum(self.products(degree) for degree in range(given + 1))
            total += trunk + (self.radial_hidden * self.hidden + square) * paths + linear * square
            total += self.rank * products * self.hidden
        return total

    def multiply_adds(self, elements: str) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the multiply-adds of a forward pass in matrix products for each atom and each edge.

        Products with couplings count by two thirds: these are constants, whose gradients a step does not take.
        """
        components, degrees = (self.max_ell + 1) ** 2, [self.degrees(layer) for layer in range(self.layers)]
        highest = max(sent for sent, _ in degrees)
        atom, edge = self.rank * self.hidden, components * self._coupled(range(highest + 1))
        for sent, given in degrees:
            made = [p for degree in range(sent + 1) for p in self.paths(degree)]
            edge += (self.radial + 1 + self.radial_hidden + self.hidden * len(made)) * self.radial_hidden
            edge += self.hidden * self._coupled(range(1, sent + 1))
            linear = (sent + 1) ** 2 + (given + 1) ** 2 + (min(sent, given) + 1) ** 2 + sum(2 * p + 1 for p in made)
            atom += linear * self.hidden**2 + self.rank * self.hidden * sum(self.products(d) for d in range(given + 1))
            atom += round(self.hidden * self.contracted[self.correlation, self.max_ell][given] * 2 / 3)
        return atom, edge

    def _coupled(self, sent: range) -> int:
        return sum((2 * degree + 1) * (2 * p + 1) for degree in sent for p in self.paths(degree))

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, ...]:  # noqa: ARG002 narrow for a moment only
        """Return the words that a training step holds for each atom and each edge; fitted to measured steps."""
        components, monomials = (self.max_ell + 1) ** 2, 0
        if self.correlation > 2:
            monomials = components * (components + 1) // 2
        degrees = [self.degrees(layer) for layer in range(self.layers)]
        made = [[p for degree in range(sent + 1) for p in self.paths(degree)] for sent, _ in degrees]
        paths, rows = [len(each) for each in made], sum(2 * p + 1 for each in made for p in each)
        sums = sum((given + 1) ** 2 for _, given in degrees) * components
        highest = max(sent for sent, _ in degrees)
        matrices = sum((2 * d + 1) * (2 * p + 1) for d in range(highest + 1) for p in self.paths(d))
        trunk, wide = self.layers * self.radial_hidden, self.layers * components
        if not conservative:
            atom = 1.7 * rows + 2.4 * wide + 3.7 * self.layers * monomials + 1.9 * sums
            return self.hidden * atom, 0.85 * self.hidden * (sum(paths) + max(paths)) + 6.4 * trunk + 0.4 * matrices
        atom = 7.2 * wide + 7.4 * self.layers * monomials + 4.6 * sums
        edge = self.hidden * (1.5 * sum(paths) + max(paths)) + 14.4 * trunk + 1.85 * matrices + 270
        return self.hidden * atom, edge

    def degrees(self, layer: int) -> tuple[int, int]:
        """Return the largest degrees that a layer's atoms send, and are given."""
        return 0 if layer == 0 else self.node_max_ell, 0 if layer == self.layers - 1 else self.node_max_ell

    def paths(self, degree: int) -> list[int]:
        """Return the degrees of what a degree of an atom makes with directions, each as often as it is made."""
        every = range(self.max_ell + 1)
        return [p for d in every for p in every if abs(degree - d) <= p <= degree + d and (degree + d + p) % 2 == 0]

    def products(self, degree: int) -> int:
        """Count the independent products of natural parity with a degree: terms with m = degree, less those with m + 1."""
        counts = {(0, 0, 0): 1}
        for ell in range(self.max_ell + 1):
            for m in range(-ell, ell + 1):
                longer: dict[tuple[int, int, int], int] = {}
                for (factors, parity, total), count in counts.items():
                    for more in range(self.correlation - factors + 1):
                        key = (factors + more, (parity + more * ell) % 2, total + more * m)
                        longer[key] = longer.get(key, 0) + count
                counts = longer
        signs = {degree: 1, degree + 1: -1}
        return sum(signs.get(m, 0) * n for (factors, parity, m), n in counts.items() if factors and parity == degree % 2)


@dataclass(frozen=True)
class Edges:
    """What a layer sees of the geometry.

    Attributes:
        basis: Functions of the distance under the envelope, (radial + 1, num_edges).
        matrices: For each degree of the sender, the coupling with the edge's direction, (num_edges, num_rows, 2l + 1).
        index: Senders and receivers, (2, num_edges).
        scale: One over the root of the mean number of neighbours.
    """

    basis: Tensor
    matrices: list[Tensor]
    index: Tensor
    scale: Tensor


class Backbone(base.Backbone):
    """MACE; the features of an atom are the scalars of the last layer."""

    def __init__(self, config: Config, spec: ModelSpec, neighborhood: base.Neighborhood) -> None:
        super().__init__(config, spec, neighborhood)
        self.width = config.hidden
        self.embedding = AtomEmbedding(spec.elements, 1 if spec.elements == "number" else self.width, spec.charge_spin)
        self.widen = Dense(1, self.width) if spec.elements == "number" else None
        self.attributes = Dense(self.width, config.rank)
        self.distance = Distance(config.basis, config.transform, config.radial, spec.cutoff)
        self.harmonics = o3.SphericalHarmonics(list(range(config.max_ell + 1)), normalize=False, normalization="component")
        self.sent = max(config.degrees(layer)[0] for layer in range(config.layers))
        for degree in range(self.sent + 1):
            matrix = torch.tensor(paths(degree, config.max_ell).matrix)
            self.register_buffer(f"coupling_{degree}", matrix, persistent=False)
        self.layers = nn.ModuleList(Layer(config, *config.degrees(layer)) for layer in range(config.layers))

    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return (num_atoms, width); see the contract."""
        scalars = self.embedding(graph)
        if self.widen is not None:  # bounded, because its third powers are summed
            scalars = torch.tanh(0.1 * self.widen(scalars))
        attributes = self.attributes(scalars)
        edges = self._edges(graph, vectors, lengths)
        tensors = scalars.unsqueeze(1)
        for layer in self.layers:
            tensors = layer(tensors, attributes, edges)
        return tensors.squeeze(1)

    def _edges(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Edges:
        directions = self.harmonics(vectors / lengths.unsqueeze(-1))
        couplings = [self.get_buffer(f"coupling_{degree}") for degree in range(self.sent + 1)]
        return Edges(
            basis=self.distance(lengths, graph.numbers, graph.edge_index),
            matrices=[(directions @ matrix).unflatten(1, (-1, 2 * degree + 1)) for degree, matrix in enumerate(couplings)],
            index=graph.edge_index,
            scale=self.message_scale,
        )


class Layer(nn.Module):
    """One round: what neighbours send along each edge's direction is summed, then multiplied with itself.

    Args:
        config: The backbone's options.
        sent: Largest degree that comes in.
        given: Largest degree that goes out.
    """

    def __init__(self, config: Config, sent: int, given: int) -> None:
        super().__init__()
        channels = config.hidden
        self.paths = [paths(degree, config.max_ell) for degree in range(sent + 1)]
        self.up = ByDegree(channels, sent)
        self.weights = EdgeWeights(config, [len(each.degrees) for each in self.paths])
        made = [degree for each in self.paths for degree in each.degrees]
        counts = [made.count(degree) for degree in range(config.max_ell + 1)]
        self.mix = nn.ModuleList(Dense(count * channels, channels, bias=False) for count in counts)
        self.products = Contraction(config.max_ell, given, config.correlation, channels, config.rank)
        self.down = ByDegree(channels, given)
        self.skip = ByDegree(channels, min(sent, given))

    def forward(self, tensors: Tensor, attributes: Tensor, edges: Edges) -> Tensor:
        """Return the new tensors (num_atoms, (given + 1)², channels)."""
        surroundings = self._surroundings(self.up(tensors), edges) * edges.scale
        out = self.down(self.products(surroundings, attributes))
        skipped = self.skip(tensors)
        both = skipped.shape[1]
        return torch.cat([out[:, :both] + skipped, out[:, both:]], 1)

    def _surroundings(self, tensors: Tensor, edges: Edges) -> Tensor:
        weights = self.weights(edges.basis)
        sums: list[list[Tensor]] = [[] for _ in self.mix]
        for degree, each in enumerate(self.paths):
            plan = Plan(edges.index, each.rows)
            total = convolve(weights[degree], edges.matrices[degree], tensors[:, rows_of(degree)], plan)
            for product, rows in zip(each.degrees, each.rows, strict=True):
                sums[product].append(total[:, rows])
        return torch.cat([mix(torch.cat(found, -1)) for mix, found in zip(self.mix, sums, strict=True)], 1)


class ByDegree(nn.Module):
    """A linear map of the channels, one for each degree."""

    def __init__(self, channels: int, max_degree: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(Dense(channels, channels, bias=False) for _ in range(max_degree + 1))

    def forward(self, tensors: Tensor) -> Tensor:
        """Map (num_atoms, (max_degree + 1)², channels), of which higher degrees are left out, to the same."""
        return torch.cat([each(tensors[:, rows_of(degree)]) for degree, each in enumerate(self.maps)], 1)


class EdgeWeights(nn.Module):
    """A network of the distance that weighs each path and channel of an edge; it vanishes with the envelope.

    Args:
        config: The backbone's options.
        num_paths: Paths of each degree of the sender.
    """

    def __init__(self, config: Config, num_paths: list[int]) -> None:
        super().__init__()
        self.first = Filter(config.radial, config.radial_hidden)
        self.second = Dense(config.radial_hidden, config.radial_hidden)
        self.last = nn.ModuleList(PathDense(config.radial_hidden, config.hidden, paths) for paths in num_paths)

    def forward(self, basis: Tensor) -> list[Tensor]:
        """Return (num_edges, num_paths, channels) for each degree of the sender."""
        hidden = silu(self.second(silu(self.first(basis)[0]))) * (_GAIN * basis[-1]).unsqueeze(-1)
        return [last(hidden).unflatten(1, (last.parts, -1)) for last in self.last]


class PathDense(Dense):
    """Several linear maps in one, each of which starts as if it were alone."""

    def __init__(self, width: int, channels: int, parts: int) -> None:
        super().__init__(width, parts * channels, bias=False)
        self.parts = parts

    def initialize(self, generator: torch.Generator) -> None:
        """Draw Glorot-uniform weights for each part."""
        draw_uniform(self.weight, math.sqrt(6.0 / (self.in_features + self.out_features // self.parts)), generator)
