"""The contract of a backbone: atoms and edge vectors in, invariant features of each atom out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from model.graph import AtomGraph
from model.outcome import CampaignError
from model.specs import ModelSpec

NeighborStatistic = Callable[[Tensor, Tensor, int, float], Tensor]
"""(lengths in Å (num_edges,), receivers (num_edges,), num_atoms, cutoff in Å) to one number of each atom, (num_atoms,)."""


@dataclass(frozen=True)
class Neighborhood:
    """What an atom of the training split has around it, on average over all its atoms.

    Attributes:
        count: Number of neighbours.
        means: Of the numbers that the backbone's `neighbor_statistics` give, by name.
    """

    count: float
    means: Mapping[str, float]

    def mean(self, name: str) -> float:
        """Return one of `means`.

        Raises:
            CampaignError: It was never taken.
        """
        if name not in self.means:
            what = f"the backbone needs the training split's mean {name}, which is not given"
            raise CampaignError(what, "model.backbone", "Use a checkpoint that was trained with it, or train anew.")
        return self.means[name]


class Backbone(nn.Module, ABC):
    """Turn a graph of atoms into features that heads read energies from.

    A backbone's file holds `Config` and `Backbone`. What must hold for every one, and is tested for every one
    (`tests/contracts/test_backbones.py`): features do not change under rotation, reflection, translation and
    renumbering; a structure's features do not depend on the others in the batch; every influence of an edge vanishes
    with two continuous derivatives at the cutoff; an atom without edges has finite features and no force;
    coincident atoms give finite derivatives; energies differentiate twice.

    Args:
        config: The backbone's own options.
        spec: The model's options: cutoff, elements, charge and spin.
        neighborhood: Means over the training split; messages are normalised by the mean number of neighbours.
    """

    width: int
    """Features of each atom."""
    neighbor_statistics: ClassVar[Mapping[str, NeighborStatistic]] = {}
    """Numbers of each atom whose means over the training split it wants; `Neighborhood.mean` has them by name."""

    def __init__(self, config: BaseModel, spec: ModelSpec, neighborhood: Neighborhood) -> None:
        super().__init__()
        self.config, self.cutoff = config, spec.cutoff
        self.message_scale: Tensor
        self.register_buffer("message_scale", torch.tensor(max(neighborhood.count, 1.0) ** -0.5, dtype=torch.float64))

    @abstractmethod
    def forward(self, graph: AtomGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the features of each atom.

        Args:
            graph: The batch; its edges are sorted by receiver.
            vectors: Edge vectors from receiver to sender, Å, (num_edges, 3).
            lengths: Their lengths, Å, (num_edges,), never zero.

        Returns:
            (num_atoms, width).
        """


def gather_sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum rows of `values` (n, …) by `index` (n,) into (count, …)."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)
