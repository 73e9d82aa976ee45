"""The loss: means over the structures and force components of the global batch, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.config import LossSpec
from model.graph import AtomGraph
from model.multitask import Prediction

HUBER_DELTA = 0.01
"""eV/atom and eV/Å; where the Huber penalty turns from a square to a line."""


class Deviations:
    """How far predictions are from the labels of one batch; where a label is missing, nothing counts.

    Attributes:
        energy: ΔE/N, eV/atom, (num_graphs,); 0 where missing.
        forces: ΔF, eV/Å, (num_atoms, 3); 0 where missing.
        has_energy: (num_graphs,) bool.
        has_forces: (num_atoms, 3) bool.
    """

    def __init__(self, prediction: Prediction, graph: AtomGraph) -> None:
        self.graph = graph
        self.has_energy, self.has_forces = torch.isfinite(graph.energy), torch.isfinite(graph.forces)
        # The label is replaced before the difference: 0·NaN in a backward pass is NaN.
        energy = prediction.energy - torch.where(self.has_energy, graph.energy, 0.0)
        forces = prediction.forces - torch.where(self.has_forces, graph.forces, 0.0)
        self.energy = torch.where(self.has_energy, energy / graph.num_atoms, 0.0)
        self.forces = torch.where(self.has_forces, forces, 0.0)

    def sums(self, penalty_energy: Tensor, penalty_forces: Tensor, num_branches: int) -> Tensor:
        """Sum penalties by branch: (2, num_branches), energies first."""
        by_graph = self.graph.branch
        by_atom = by_graph[self.graph.graph]
        energy = penalty_energy.new_zeros(num_branches).index_add(0, by_graph, penalty_energy)
        forces = penalty_forces.new_zeros(num_branches).index_add(0, by_atom, penalty_forces.sum(1))
        return torch.stack([energy, forces])

    def not_finite(self) -> Tensor:
        """Say of each structure whether its energy or a force is not finite: (num_graphs,) bool."""
        bad = (~torch.isfinite(self.energy.detach())).to(torch.int64)
        atoms = (~torch.isfinite(self.forces.detach()).all(1)).to(torch.int64)
        return bad.index_add(0, self.graph.graph, atoms) > 0


def count_labels(graph: AtomGraph, num_branches: int) -> Tensor:
    """Count the labelled structures and force components of each branch: (2, num_branches) float64."""
    energy = torch.isfinite(graph.energy).to(torch.float64)
    forces = torch.isfinite(graph.forces).sum(1).to(torch.float64)
    counts = torch.zeros(2, num_branches, dtype=torch.float64, device=graph.energy.device)
    counts[0].index_add_(0, graph.branch, energy)
    counts[1].index_add_(0, graph.branch[graph.graph], forces)
    return counts


class Loss:
    """L = Σ_b λ_b [ w_E · mean over structures of ℓ(ΔE/N) + w_F · mean over force components of ℓ(ΔF) ].

    Args:
        spec: w_E, w_F and ℓ.
        weights: λ_b, in the order of the model's branches.
    """

    def __init__(self, spec: LossSpec, weights: Sequence[float]) -> None:
        self._kind = spec.kind
        terms = torch.tensor([[spec.energy], [spec.forces]], dtype=torch.float64)
        self._weights = terms * torch.tensor([list(weights)], dtype=torch.float64)

    def __call__(self, deviations: Deviations, counts: Tensor) -> Tensor:
        """Return this rank's part of the loss; the parts of all ranks add up to the loss.

        Args:
            deviations: Of this rank's part of the batch.
            counts: Labels of the *global* batch, (2, num_branches).
        """
        sums = deviations.sums(self._penalty(deviations.energy), self._penalty(deviations.forces), counts.shape[1])
        weights = self._weights.to(counts.device) / counts.clamp(min=1.0)
        return (weights.to(sums.dtype) * sums).sum()

    def _penalty(self, difference: Tensor) -> Tensor:
        if self._kind == "mae":
            return difference.abs()
        if self._kind == "mse":
            return difference.square()
        return torch.nn.functional.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=HUBER_DELTA)
