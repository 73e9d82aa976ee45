"""Symmetric contraction: products of an atom's tensor with itself, weighted by its element (Batatia et al., NeurIPS 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.layers.coupling import products
from model.layers.dense import draw_normal


class Contraction(nn.Module):
    """All products of up to ν copies of a tensor that are tensors, each channel by itself, summed with weights.

    Args:
        max_degree: Largest degree that comes in.
        output_degree: Largest degree that comes out.
        correlation: ν, at most 3.
        channels: Channels.
        rank: Numbers of an atom that its weights are linear in.
    """

    def __init__(self, max_degree: int, output_degree: int, correlation: int, channels: int, rank: int) -> None:
        super().__init__()
        basis = products(max_degree, output_degree, correlation)
        self.num_paths, self.orders, self.cubic = basis.num_paths, basis.orders, bool(len(basis.pairs))
        self.weight = nn.Parameter(torch.empty(rank, sum(basis.num_paths), channels))
        self.factors: Tensor
        self.pairs: Tensor
        self.source: Tensor
        self.path: Tensor
        self.sums: Tensor
        for name in ("factors", "pairs", "source", "path", "sums"):
            self.register_buffer(name, torch.tensor(getattr(basis, name)), persistent=False)

    def initialize(self, generator: torch.Generator) -> None:
        """Draw normal weights: a degree comes out about as large as one product; ν factors count 1/ν!, as in a series."""
        draw_normal(self.weight, self.weight.shape[0] ** -0.5, generator)
        paths = [count for count in self.num_paths for _ in range(count)]
        scales = [paths**-0.5 / math.factorial(order) for paths, order in zip(paths, self.orders, strict=True)]
        with torch.no_grad():
            self.weight.mul_(torch.tensor(scales, dtype=self.weight.dtype, device=self.weight.device).unsqueeze(-1))

    def forward(self, tensor: Tensor, attributes: Tensor) -> Tensor:
        """Return the contracted tensor.

        Args:
            tensor: (num_atoms, (max_degree + 1)², channels).
            attributes: What the weights depend on, (num_atoms, rank).

        Returns:
            (num_atoms, (output_degree + 1)², channels).
        """
        weights = (attributes @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        rows = [torch.ones_like(tensor[:, :1]), tensor]
        if self.cubic:
            first, second = (tensor.index_select(1, index) for index in self.factors)
            rows.append(self.pairs @ (first * second))
        known = torch.cat(rows, 1).index_select(1, self.source) * weights.index_select(1, self.path)
        return ((self.sums @ known).unflatten(1, (-1, tensor.shape[1])) * tensor.unsqueeze(1)).sum(2)
