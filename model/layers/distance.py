"""Functions of a distance for MACE: transformed by the sizes of the two atoms, then expanded in one of three bases."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from model.layers.radial import envelope

_NUM_RADII = 97
"""Entries of ASE's table that are radii (Cordero et al., 2008): heavier elements take the last one, curium's 1.69 Å."""


class Distance(nn.Module):
    """A basis of functions of a distance, under the envelope.

    Args:
        basis: `bessel`, `gaussian` or `chebyshev`.
        transform: `none`, `agnesi` or `soft`.
        count: Number of functions.
        cutoff: Å.
    """

    def __init__(self, basis: str, transform: str, count: int, cutoff: float) -> None:
        super().__init__()
        self.basis, self.transform, self.count, self.cutoff = _BASES[basis], transform, count, cutoff
        radii = [*covalent_radii[:_NUM_RADII].tolist()]
        radii += [radii[-1]] * (119 - _NUM_RADII)
        self.radii: Tensor
        self.register_buffer("radii", torch.tensor(radii, dtype=torch.float64), persistent=False)

    def forward(self, lengths: Tensor, numbers: Tensor, edge_index: Tensor) -> Tensor:
        """Return the functions and the constant 1, all under the envelope, (count + 1, num_edges).

        Args:
            lengths: Å, (num_edges,), none of them zero.
            numbers: Atomic numbers, (num_atoms,).
            edge_index: Senders and receivers, (2, num_edges).
        """
        values = self.basis(self._place(lengths, numbers, edge_index), self.count)
        return torch.cat([values, torch.ones_like(lengths).unsqueeze(0)]) * envelope(lengths, self.cutoff)

    def _place(self, lengths: Tensor, numbers: Tensor, edge_index: Tensor) -> Tensor:
        """Return where a distance lies between 0 and 1."""
        if self.transform == "none":
            return lengths / self.cutoff
        sender, receiver = self.radii.index_select(0, numbers).index_select(0, edge_index.flatten()).view(2, -1)
        bond = sender + receiver
        return agnesi(lengths, bond) if self.transform == "agnesi" else soft(lengths, bond) / self.cutoff


def agnesi(lengths: Tensor, bond: Tensor) -> Tensor:
    """Return 1/(1 + a·x^q/(1 + x^(q − p))) at x = 2·length/bond: 1 where atoms touch, falling slowly beyond a bond.

    Source: Witt et al., J. Chem. Phys. 159, 164101 (2023), with MACE's a = 1.0805, q = 0.9183, p = 4.5791.

    Args:
        lengths: Å, (num_edges,).
        bond: Sum of the atoms' covalent radii, Å, (num_edges,).
    """
    x = 2.0 * lengths / bond
    return 1.0 / (1.0 + 1.0805 * x.pow(0.9183) / (1.0 + x.pow(0.9183 - 4.5791)))


def soft(lengths: Tensor, bond: Tensor) -> Tensor:
    """Return the length in Å, made to level off at ¾ of a bond: atoms do not come closer, and need no functions there.

    Args:
        lengths: Å, (num_edges,).
        bond: Sum of the atoms' covalent radii, Å, (num_edges,).
    """
    low, high = 0.75 * bond, bond * (4.0 / 3.0)
    share = 0.5 * (1.0 + torch.tanh(4.0 * (lengths - 0.5 * (low + high)) / (high - low)))
    return low + (lengths - low) * share


def _bessel(x: Tensor, count: int) -> Tensor:
    frequencies = math.pi * torch.arange(1, count + 1, dtype=x.dtype, device=x.device).unsqueeze(-1)
    return torch.sin(frequencies * x) * (0.5 / x)


def _gaussian(x: Tensor, count: int) -> Tensor:
    steps = max(count - 1, 1)
    centers = torch.arange(count, dtype=x.dtype, device=x.device).unsqueeze(-1)
    return torch.exp(-0.5 * (steps * x - centers).square())


def _chebyshev(x: Tensor, count: int) -> Tensor:
    """Return T_1 … T_count of 2x − 1."""
    y = 2.0 * x - 1.0
    values = [torch.ones_like(y), y]
    while len(values) <= count:
        values.append(2.0 * y * values[-1] - values[-2])
    return torch.stack(values[1 : count + 1])


_BASES: dict[str, Callable[[Tensor, int], Tensor]] = {"bessel": _bessel, "gaussian": _gaussian, "chebyshev": _chebyshev}
