"""Divide a rank's part of a global batch into pieces that fit, whose gradients add up to those of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import TrainConfig
from model.data.structure import UNLABELLED
from model.feasibility import MARGIN, Batch, training_gb
from model.graph import AtomGraph
from model.outcome import CampaignError

_MANY = 10**9


class Accumulation:
    """Pieces of a rank's part of a batch: a pure function of configuration and structures.

    What a device has is what `memory_gb` says it has, never what happens to be free: the pieces of a step, and with
    them the rounding of its sums, are the same whenever the step is made again.

    Args:
        config: `micro_batch`, `memory_gb`, model, precision, averaging.
        num_branches: Branches that this rank holds.
        ranks: All ranks of the training.

    Raises:
        CampaignError: `micro_batch: auto` without a memory to fit into.
    """

    def __init__(self, config: TrainConfig, num_branches: int, ranks: int = 1) -> None:
        self._most = config.micro_batch
        if self._most == "auto":
            if config.memory_gb is None:
                raise CampaignError("`auto` needs the memory of a device", "micro_batch", "Give `memory_gb`, or a number.")
            self._each, self._room = _memory(config, num_branches, ranks, config.memory_gb)

    def pieces(self, graph: AtomGraph) -> list[AtomGraph]:
        """Return the structures of a graph, in their order, as one or several graphs."""
        if self._most is None or graph.num_graphs == 1:
            return [graph]
        stops = list(range(self._most, graph.num_graphs, self._most)) if isinstance(self._most, int) else self._fitting(graph)
        return list(graph.cut([0, *stops, graph.num_graphs]))

    def _fitting(self, graph: AtomGraph) -> list[int]:
        """Return where to cut so that each piece, but one of a single structure, fits."""
        need = (_counts(graph) @ self._each).tolist()
        stops, filled = list[int](), 0.0
        for place, each in enumerate(need):
            if filled and filled + each > self._room:
                stops.append(place)
                filled = 0.0
            filled += each
        return stops


def pair_without_labels(like: Tensor, distance: float) -> AtomGraph:
    """Return two hydrogen atoms without labels in the dtype and on the device of a tensor."""
    positions = like.new_tensor([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])

    def integers(*values: int) -> Tensor:
        return torch.tensor(values, device=like.device)

    return AtomGraph(
        numbers=integers(1, 1),
        positions=positions,
        cell=like.new_zeros(1, 3, 3),
        edge_index=torch.stack([integers(1, 0), integers(0, 1)]),
        edge_shift=like.new_zeros(2, 3),
        graph=integers(0, 0),
        num_atoms=integers(2),
        branch=integers(0),
        charge=integers(UNLABELLED),
        spin=integers(UNLABELLED),
        energy=like.new_full((1,), torch.nan),
        forces=like.new_full((2, 3), torch.nan),
    )


def _memory(config: TrainConfig, num_branches: int, ranks: int, memory_gb: float) -> tuple[Tensor, float]:
    """Return the GB of an atom, an edge and a triplet, and the GB that there are for them beside weights and optimizer."""

    def peak(*counts: int) -> float:
        return training_gb(config, num_branches, ranks, Batch(*counts))

    # Differences of large batches: below some size the estimate is that of the weights alone.
    base = peak(_MANY, 0, 0)
    each = [base / _MANY, *((peak(_MANY, *more) - base) / _MANY for more in ((_MANY, 0), (0, _MANY)))]
    return torch.tensor(each, dtype=torch.float64), memory_gb / MARGIN - peak(0, 0, 0)


def _counts(graph: AtomGraph) -> Tensor:
    """Return atoms, edges and triplets of each structure, (num_graphs, 3) float64."""
    neighbors = torch.bincount(graph.edge_index[1], minlength=len(graph.graph)).to(torch.float64)
    of_atoms = torch.stack([torch.ones_like(neighbors), neighbors, neighbors.square()], 1)
    return of_atoms.new_zeros(graph.num_graphs, 3).index_add(0, graph.graph, of_atoms).cpu()
