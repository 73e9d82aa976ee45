"""One or many structures as a graph of atoms: the tensors that a model sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AtomGraph:
    """A batch of structures as one graph.

    Attributes:
        numbers: Atomic numbers, (num_atoms,) int64.
        positions: Å, (num_atoms, 3).
        cell: Lattice vectors as rows, Å, (num_graphs, 3, 3); zeros where there is none.
        edge_index: (2, num_edges) int64, row 0 sender j, row 1 receiver i, sorted by receiver.
        edge_shift: Integer cell shifts S, (num_edges, 3), in the positions' dtype; the edge vector is
            r_ij = x_j + S·cell − x_i.
        graph: Graph of each atom, (num_atoms,) int64, ascending.
        num_atoms: Atoms of each graph, (num_graphs,) int64.
        branch: Branch of each graph as an index into the model's branches, (num_graphs,) int64.
        charge: Total charge, (num_graphs,) int64, `UNLABELLED` where not stated.
        spin: Multiplicity, (num_graphs,) int64, `UNLABELLED` where not stated.
        energy: Label: *residual* energy after the branch's per-element references, eV, (num_graphs,); NaN where missing.
        forces: Label: eV/Å, (num_atoms, 3); NaN where missing.
        target: Label of a branch that predicts no energy, (num_graphs,): a scalar as spreads about the training split's mean,
            or a class as 0 and 1; NaN where missing, None where no branch of the batch has one.
    """

    numbers: Tensor
    positions: Tensor
    cell: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    graph: Tensor
    num_atoms: Tensor
    branch: Tensor
    charge: Tensor
    spin: Tensor
    energy: Tensor
    forces: Tensor
    target: Tensor | None = None

    @property
    def num_graphs(self) -> int:
        """Return the number of structures."""
        return self.num_atoms.shape[0]

    def edge_vectors(self) -> Tensor:
        """Return r_ij = x_j + S·cell − x_i in Å, (num_edges, 3); differentiable in positions and cell."""
        sender, receiver = self.edge_index
        offset = torch.einsum("ei,eij->ej", self.edge_shift, self.cell.index_select(0, self.graph[receiver]))
        return self.positions.index_select(0, sender) - self.positions.index_select(0, receiver) + offset

    def with_(self, **changes: Any) -> AtomGraph:
        """Return a copy with some tensors replaced."""
        return replace(self, **changes)

    def cut(self, places: Sequence[int]) -> Iterator[AtomGraph]:
        """Yield the structures between each two places as a graph of their own; labels and positions are not copied."""
        bounds = torch.nn.functional.pad(self.num_atoms.cumsum(0), (1, 0))[list(places)]
        edges = torch.searchsorted(self.edge_index[1].contiguous(), bounds).tolist()
        atoms = bounds.tolist()
        for k in range(len(places) - 1):
            structures, rows, links = (slice(cuts[k], cuts[k + 1]) for cuts in (places, atoms, edges))
            yield AtomGraph(
                numbers=self.numbers[rows],
                positions=self.positions[rows],
                cell=self.cell[structures],
                edge_index=self.edge_index[:, links] - atoms[k],
                edge_shift=self.edge_shift[links],
                graph=self.graph[rows] - places[k],
                num_atoms=self.num_atoms[structures],
                branch=self.branch[structures],
                charge=self.charge[structures],
                spin=self.spin[structures],
                energy=self.energy[structures],
                forces=self.forces[rows],
                target=None if self.target is None else self.target[structures],
            )

    def to(self, device: torch.device | str) -> AtomGraph:
        """Return a copy on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})
