"""The loss: means over the structures and force components of the global batch, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.graph import AtomGraph
from model.prediction import Prediction
from model.specs import LossSpec

HUBER_DELTA = 0.01
"""eV/atom, eV/Å and spreads of a scalar; where the Huber penalty turns from a square to a line."""


class Deviations:
    """How far predictions are from the labels of one batch; where a label is missing, nothing counts.

    Attributes:
        energy: ΔE/N, eV/atom, (num_graphs,); 0 where missing.
        forces: ΔF, eV/Å, (num_atoms, 3); 0 where missing.
        has_energy: (num_graphs,) bool.
        has_forces: (num_atoms, 3) bool.
        scalar: Error of a scalar in spreads, (num_graphs,); 0 where missing, None where no branch predicts a target.
        cross_entropy: −ln of the probability given to the true class, (num_graphs,); likewise.
    """

    def __init__(self, prediction: Prediction, graph: AtomGraph) -> None:
        self.graph = graph
        self.has_energy, self.has_forces = torch.isfinite(graph.energy), torch.isfinite(graph.forces)
        # The label is replaced before the difference: 0·NaN in a backward pass is NaN.
        energy = prediction.energy - torch.where(self.has_energy, graph.energy, 0.0)
        forces = prediction.forces - torch.where(self.has_forces, graph.forces, 0.0)
        self.energy = torch.where(self.has_energy, energy / graph.num_atoms, 0.0)
        self.forces = torch.where(self.has_forces, forces, 0.0)
        self._outputs = prediction.target
        self.scalar: Tensor | None
        self.cross_entropy: Tensor | None
        self.scalar, self.cross_entropy = _of_targets(prediction, graph)

    def of_structures(self, penalty: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the penalty of what each structure's branch predicts of it as a whole, (num_graphs,).

        That is ΔE/N or a scalar's error under `penalty`, or a class's cross-entropy.
        """
        if self.scalar is None or self.cross_entropy is None:
            return penalty(self.energy)
        return penalty(self.energy) + penalty(self.scalar) + self.cross_entropy

    def targets(self) -> Tensor:
        """Return labels and outputs of targets as the model learns them, (num_graphs, 2) float64; NaN where there is none."""
        both = [self.graph.target, self._outputs]
        columns = [torch.full_like(self.energy, torch.nan) if each is None else each.detach() for each in both]
        return torch.stack(columns, 1).to(torch.float64)

    def sums(self, penalty_structures: Tensor, penalty_forces: Tensor, num_branches: int) -> Tensor:
        """Sum penalties by branch: (2, num_branches), those of structures first."""
        by_graph = self.graph.branch
        by_atom = by_graph[self.graph.graph]
        structures = penalty_structures.new_zeros(num_branches).index_add(0, by_graph, penalty_structures)
        forces = penalty_forces.new_zeros(num_branches).index_add(0, by_atom, penalty_forces.sum(1))
        return torch.stack([structures, forces])

    def not_finite(self) -> Tensor:
        """Say of each structure whether its energy, target or a force is not finite: (num_graphs,) bool."""
        bad = (~torch.isfinite(self.of_structures(torch.abs).detach())).to(torch.int64)
        atoms = (~torch.isfinite(self.forces.detach()).all(1)).to(torch.int64)
        return bad.index_add(0, self.graph.graph, atoms) > 0


def count_labels(graph: AtomGraph, num_branches: int) -> Tensor:
    """Count the labelled structures and force components of each branch: (2, num_branches) float64."""
    structures = torch.isfinite(graph.energy)
    if graph.target is not None:
        structures = structures | torch.isfinite(graph.target)
    forces = torch.isfinite(graph.forces).sum(1).to(torch.float64)
    counts = torch.zeros(2, num_branches, dtype=torch.float64, device=graph.energy.device)
    counts[0].index_add_(0, graph.branch, structures.to(torch.float64))
    counts[1].index_add_(0, graph.branch[graph.graph], forces)
    return counts


class Loss:
    """L = Σ_b λ_b [ w_E · mean over structures of ℓ(ΔE/N) + w_F · mean over force components of ℓ(ΔF) ].

    The term of a branch that predicts a target is the mean over its structures of ℓ(scalar's error in spreads), or of
    the cross-entropy of a class, with weight 1.

    Args:
        spec: w_E, w_F and ℓ.
        weights: λ_b, in the order of the model's branches.
        targets: Whether each branch predicts a target; none: no branch does.
    """

    def __init__(self, spec: LossSpec, weights: Sequence[float], targets: Sequence[bool] = ()) -> None:
        self._kind = spec.kind
        structures = [1.0 if is_target else spec.energy for is_target in targets or [False] * len(weights)]
        terms = torch.tensor([structures, [spec.forces] * len(weights)], dtype=torch.float64)
        self._weights = terms * torch.tensor([list(weights)], dtype=torch.float64)

    def __call__(self, deviations: Deviations, counts: Tensor) -> Tensor:
        """Return this rank's part of the loss; the parts of all ranks add up to the loss.

        Args:
            deviations: Of this rank's part of the batch.
            counts: Labels of the *global* batch, (2, num_branches).
        """
        structures, forces = deviations.of_structures(self._penalty), self._penalty(deviations.forces)
        sums = deviations.sums(structures, forces, counts.shape[1])
        weights = self._weights.to(counts.device) / counts.clamp(min=1.0)
        return (weights.to(sums.dtype) * sums).sum()

    def _penalty(self, difference: Tensor) -> Tensor:
        if self._kind == "mae":
            return difference.abs()
        if self._kind == "mse":
            return difference.square()
        return torch.nn.functional.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=HUBER_DELTA)


def _of_targets(prediction: Prediction, graph: AtomGraph) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return the errors of scalars and the cross-entropies of classes, 0 where there is no label."""
    if prediction.target is None or prediction.is_class is None or graph.target is None:
        return None, None
    has_label = torch.isfinite(graph.target)
    is_class, is_scalar = has_label & prediction.is_class, has_label & ~prediction.is_class
    # Outputs and labels of the other kind are replaced before the difference: 0·NaN in a backward pass is NaN.
    log_odds, classes = (torch.where(is_class, each, 0.0) for each in (prediction.target, graph.target))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(log_odds, classes, reduction="none")
    scalar = torch.where(is_scalar, prediction.target, 0.0) - torch.where(is_scalar, graph.target, 0.0)
    return scalar, torch.where(is_class, entropy, 0.0)
