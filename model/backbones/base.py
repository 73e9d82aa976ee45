"""The contract of a backbone: atoms and edge vectors in, invariant features of each atom out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from model.config import ModelSpec
from model.graph import AtomGraph


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
        average_neighbors: Mean number of neighbours in the training split; messages are normalised by it.
    """

    width: int
    """Features of each atom."""

    def __init__(self, config: BaseModel, spec: ModelSpec, average_neighbors: float) -> None:
        super().__init__()
        self.config, self.cutoff = config, spec.cutoff
        self.message_scale: Tensor
        self.register_buffer("message_scale", torch.tensor(max(average_neighbors, 1.0) ** -0.5, dtype=torch.float64))

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
