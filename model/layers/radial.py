"""Functions of a distance: soft length, C² envelope and Bessel basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SOFTENING = 1e-3
"""Å. Lengths are √(r² + SOFTENING²), so that coincident atoms have finite derivatives of every order; at
1 Å the length changes by 5e-7 Å, the same smooth function for energy and force."""


def soft_lengths(vectors: Tensor) -> Tensor:
    """Return √(|r|² + SOFTENING²) in Å of vectors (num_edges, 3)."""
    return torch.sqrt(vectors.square().sum(-1) + SOFTENING**2)


def envelope(lengths: Tensor, cutoff: float) -> Tensor:
    """Return 1 − 10x³ + 15x⁴ − 6x⁵ at x = length/cutoff, and 0 beyond: value, slope and curvature vanish at the cutoff."""
    x = (lengths / cutoff).clamp(max=1.0)
    return 1.0 - x * x * x * (10.0 + x * (6.0 * x - 15.0))


def bessel(lengths: Tensor, cutoff: float, count: int) -> Tensor:
    """Return √2·sin(nπx)/x at x = length/cutoff for n = 1 … count: (num_edges, count).

    The prefactor makes the functions of unit size, whatever the cutoff (Gasteiger et al., ICLR 2020, eq. 7).
    """
    x = (lengths / cutoff).unsqueeze(-1)
    frequencies = math.pi * torch.arange(1, count + 1, dtype=lengths.dtype, device=lengths.device)
    return math.sqrt(2.0) * torch.sin(x * frequencies) / x


def radial_basis(lengths: Tensor, cutoff: float, count: int) -> Tensor:
    """Return the Bessel functions and the constant 1, all under the envelope: (num_edges, count + 1).

    A linear map of it without bias is a filter with bias under the envelope.
    """
    functions = bessel(lengths, cutoff, count)
    return torch.cat([functions, torch.ones_like(functions[:, :1])], -1) * envelope(lengths, cutoff).unsqueeze(-1)
