"""First features of an atom: its element, and the charge and spin of its structure."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.structure import UNLABELLED
from model.graph import AtomGraph
from model.layers.dense import draw_normal

NUM_ELEMENTS = 119
"""Rows of an element table: atomic numbers 0 … 118."""
LARGEST = 100
"""Largest |charge| and largest multiplicity that have a row."""


class Table(nn.Module):
    """Learned rows for integers."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def initialize(self, generator: torch.Generator) -> None:
        """Draw unit-normal rows."""
        draw_normal(self.weight, 1.0, generator)

    def forward(self, index: Tensor) -> Tensor:
        """Return the rows (n, width) at `index` (n,)."""
        return functional.embedding(index, self.weight)


class ChargeSpin(nn.Module):
    """One row for each total charge and each multiplicity, and one of each for structures that do not state it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.charge = Table(2 * LARGEST + 2, width)
        self.spin = Table(LARGEST + 2, width)

    def forward(self, graph: AtomGraph) -> Tensor:
        """Return (num_graphs, width).

        Raises:
            IndexError: A charge beyond ±`LARGEST`, or a multiplicity beyond `LARGEST`.
        """
        charge = torch.where(graph.charge == UNLABELLED, 2 * LARGEST + 1, graph.charge + LARGEST)
        spin = torch.where(graph.spin == UNLABELLED, LARGEST + 1, graph.spin)
        return self.charge(charge) + self.spin(spin)


class AtomEmbedding(nn.Module):
    """Features of atoms before they see their neighbours.

    Args:
        elements: `embedding`: a learned row for each element; `number`: the atomic number as one feature.
        width: Features of an atom; 1 for `number`.
        charge_spin: Add the structure's charge and spin.
    """

    def __init__(self, elements: str, width: int, charge_spin: bool) -> None:
        super().__init__()
        self.elements = Table(NUM_ELEMENTS, width) if elements == "embedding" else None
        self.condition = ChargeSpin(width) if charge_spin else None

    def forward(self, graph: AtomGraph) -> Tensor:
        """Return (num_atoms, width)."""
        if self.elements is None:
            features = graph.numbers.to(graph.positions.dtype).unsqueeze(-1)
        else:
            features = self.elements(graph.numbers)
        return features if self.condition is None else features + self.condition(graph)[graph.graph]
