"""Heads: what reads energies, and where asked for forces, from the features of atoms; or a target from those of a structure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.layers.activation import silu
from model.layers.dense import MLP, Dense, Filter
from model.layers.radial import radial_basis
from model.specs import ModelSpec

FORCE_RADIAL = 8
"""Bessel functions that a force head weighs edges by."""


class Head(nn.Module):
    """What one branch has of its own.

    Args:
        spec: The model's options.
        width: Features of an atom.
    """

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.energy = MLP([width, *spec.widths, 1])
        self.forces = ForceHead(width, spec.head_hidden, spec.cutoff) if spec.forces == "head" else None


class TargetHead(nn.Module):
    """What a branch has of its own that predicts a scalar or a class.

    A structure's features are the mean over its atoms, whatever the readout of energies: so are intensive quantities.

    Args:
        spec: The model's options.
        width: Features of an atom.
    """

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.target = MLP([width, *spec.widths, 1])

    def forward(self, features: Tensor) -> Tensor:
        """Return one number for each structure, (n,).

        Args:
            features: Mean over a structure's atoms, (n, width).
        """
        output: Tensor = self.target(features).squeeze(-1)
        return output


class ForceHead(nn.Module):
    """Forces as sums over edges of a scalar weight times the unit vector: they turn with the atoms.

    Args:
        width: Features of an atom.
        hidden: Width of the weighing network.
        cutoff: Å.
    """

    def __init__(self, width: int, hidden: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.ends = Dense(width, 2 * hidden)
        self.distance = Filter(FORCE_RADIAL, hidden)
        self.weight = Dense(hidden, 1, bias=False)

    def forward(self, features: Tensor, edge_index: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return one term for each edge, (num_edges, 3), to be summed by receiver; zero at the cutoff."""
        first, second = self.ends(features).chunk(2, -1)
        basis = radial_basis(lengths, self.cutoff, FORCE_RADIAL)
        hidden = self.distance(basis)[0] + first.index_select(0, edge_index[1]) + second.index_select(0, edge_index[0])
        weight = self.weight(silu(hidden)) * basis[-1].unsqueeze(-1)
        return weight * vectors / lengths.unsqueeze(-1)


def split_by_branch(branch: Tensor, num_branches: int) -> list[tuple[int, Tensor | slice]]:
    """Return which rows belong to each branch that occurs, by one transfer from the device.

    Args:
        branch: Branch of each row, (n,).
        num_branches: Branches of the model.

    Returns:
        Pairs of branch and rows: all rows as a slice where only one branch occurs.
    """
    counts = torch.bincount(branch, minlength=num_branches).tolist()
    present = [index for index, count in enumerate(counts) if count]
    if len(present) == 1:
        return [(present[0], slice(None))]
    rows = torch.argsort(branch, stable=True).split([counts[index] for index in present])
    return list(zip(present, rows, strict=True))
