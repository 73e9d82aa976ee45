"""Functions of a distance and an angle: spherical Bessel functions under an envelope, Legendre polynomials of a cosine.

They are smooth wherever the atoms are: none divides by a distance, and three atoms on a line are nothing special,
because no arc cosine is taken.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor
from torch.autograd import Function


def closing_envelope(lengths: Tensor, cutoff: float, power: int) -> Tensor:
    """Return 1 − O(x^power) at x = length/cutoff, and 0 beyond: value, slope and curvature vanish at the cutoff.

    With p the power it is 1 − ½(p + 1)(p + 2)x^p + p(p + 2)x^(p + 1) − ½p(p + 1)x^(p + 2) (Gasteiger et al., ICLR 2020,
    eq. 8); p = 3 is the envelope of the other backbones.
    """
    x, p = (lengths / cutoff).clamp(max=1.0), power
    return 1.0 - x.pow(p) * (0.5 * (p + 1) * (p + 2) + x * (0.5 * p * (p + 1) * x - p * (p + 2)))


def spherical_bessel(order: int, x: Tensor) -> Tensor:
    """Return j_l(x) for x ≥ 0, with derivatives of every order: (2l + 1)·j_l′ = l·j_{l−1} − (l + 1)·j_{l+1}."""
    value: Tensor = _SphericalBessel.apply(x, order)
    return value


def legendre(cosine: Tensor, count: int) -> Tensor:
    """Return √(2l + 1)·P_l of cosines (n,) for l < count, (count, n): unit mean square over the sphere."""
    values = [torch.ones_like(cosine), cosine]
    for order in range(1, count - 1):
        values.append(((2 * order + 1) * cosine * values[-1] - order * values[-2]) / (order + 1))
    return torch.stack([math.sqrt(2 * order + 1) * value for order, value in enumerate(values[:count])])


@cache
def bessel_roots(orders: int, count: int) -> tuple[tuple[float, ...], ...]:
    """Return the first `count` positive roots of j_l for l < orders; those of one order lie between those of the next."""
    roots = [[math.pi * n for n in range(1, count + orders)]]
    for order in range(1, orders):
        ends = zip(roots[-1][:-1], roots[-1][1:], strict=True)
        roots.append([brentq(lambda x, order=order: spherical_jn(order, x), *end, xtol=1e-14) for end in ends])
    return tuple(tuple(row[:count]) for row in roots)


@cache
def bessel_scales(orders: int, count: int) -> tuple[tuple[float, ...], ...]:
    """Return ½/|j_{l+1}| at each root: with it the functions of one order are orthogonal, and as large as `radial_basis`."""
    roots = bessel_roots(orders, count)
    return tuple(tuple(0.5 / abs(float(spherical_jn(order + 1, z))) for z in row) for order, row in enumerate(roots))


class _SphericalBessel(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.order = order
        return _bessel(order, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,), order = ctx.saved_tensors, ctx.order
        slope = -(order + 1) * spherical_bessel(order + 1, x)
        if order:
            slope = slope + order * spherical_bessel(order - 1, x)
        return grads[0] * slope / (2 * order + 1), None


def _bessel(order: int, x: Tensor) -> Tensor:
    """Sum the power series below l + 1, and recur upwards above, where each loses no digits."""
    near = x < order + 1
    return torch.where(near, _series(order, x.clamp(max=order + 1.0)), _recurrence(order, x.clamp(min=order + 1.0)))


def _series(order: int, x: Tensor) -> Tensor:
    square, total = -0.5 * x * x, torch.ones_like(x)
    for k in range(10 + order, 0, -1):
        total = torch.addcmul(torch.ones_like(x), square, total, value=1.0 / (k * (2 * order + 2 * k + 1)))
    return total * x.pow(order) / math.prod(range(1, 2 * order + 2, 2))


def _recurrence(order: int, x: Tensor) -> Tensor:
    sine, cosine = torch.sin(x) / x, torch.cos(x) / x
    below, value = sine, sine / x - cosine
    for degree in range(1, order):
        below, value = value, (2 * degree + 1) * value / x - below
    return value if order else sine
