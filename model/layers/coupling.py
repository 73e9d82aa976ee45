"""Spherical tensors of natural parity, and their couplings by e3nn's symbols.

A tensor of degrees 0 … l_max is stored as (…, (l_max + 1)², channels): degree l in rows l² … (l + 1)² − 1, in e3nn's order.
Its parity is (−1)^l, so that only couplings with an even sum of degrees make another one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def rows_of(degree: int) -> slice:
    """Return where a degree stands."""
    return slice(degree * degree, (degree + 1) * (degree + 1))


def couples(first: int, second: int, third: int) -> bool:
    """Say whether two degrees couple to a third."""
    return abs(first - second) <= third <= first + second


@cache
def coupling(first: int, second: int, third: int) -> Array:
    """Return √(2l₃ + 1)·C of shape (2l₁ + 1, 2l₂ + 1, 2l₃ + 1): unit tensors make components of unit mean square.

    C are e3nn's Wigner 3j symbols, in its real basis.
    """
    with torch.device("cpu"):  # a model may be under construction on another one
        symbols = o3.wigner_3j(first, second, third, dtype=torch.float64)
    return math.sqrt(2 * third + 1) * symbols.numpy()


@dataclass(frozen=True)
class Paths:
    """Ways to couple one degree of an atom's tensor with a direction.

    Attributes:
        degrees: Degree of the product, for each path.
        rows: Rows of the product, for each path.
        matrix: From the direction's components to a matrix that acts on the atom's degree:
            ((l_max + 1)², num_rows·(2l + 1)).
    """

    degrees: tuple[int, ...]
    rows: tuple[slice, ...]
    matrix: Array


@cache
def paths(degree: int, max_degree: int) -> Paths:
    """Return the ways to couple `degree` with directions up to `max_degree` to tensors up to `max_degree`."""
    pairs = itertools.product(range(max_degree + 1), repeat=2)
    found = [(d, p) for d, p in pairs if couples(degree, d, p) and (degree + d + p) % 2 == 0]
    blocks, rows, start = [], [], 0
    for direction, product in found:
        block = np.zeros(((max_degree + 1) ** 2, 2 * product + 1, 2 * degree + 1))
        block[rows_of(direction)] = coupling(degree, direction, product).transpose(1, 2, 0)
        blocks.append(block)
        rows.append(slice(start, start + 2 * product + 1))
        start = rows[-1].stop
    matrix = np.concatenate(blocks, 1).reshape((max_degree + 1) ** 2, -1)
    return Paths(tuple(product for _, product in found), tuple(rows), matrix)


@dataclass(frozen=True)
class Products:
    """A basis of the products of up to ν copies of a tensor A that are tensors, in Horner's form.

    They are Σ_m A_m·(U·V)_m, where V holds rows of (1, A, pairs of A), each times the weight of its path.

    Attributes:
        factors: Rows a and b of each product A_a·A_b, (2, num_monomials).
        pairs: From these to coupled pairs, (num_pair_rows, num_monomials).
        source: Row of (1, A, pairs) that each row of V takes, (num_rows,).
        path: Path whose weight it takes, (num_rows,).
        sums: U, (num_output_rows·num_components, num_rows).
        num_paths: Paths to each output degree.
        orders: Factors of each path's product.
    """

    factors: Indices
    pairs: Array
    source: Indices
    path: Indices
    sums: Array
    num_paths: tuple[int, ...]
    orders: tuple[int, ...]


@dataclass(frozen=True)
class _Product:
    """A product of so many factors: rows of (1, A, pairs), coupled with one degree of A by a matrix (rows, 2l + 1, 2L + 1)."""

    order: int
    source: range
    last: int
    matrix: Array


@cache
def products(max_degree: int, output_degree: int, correlation: int) -> Products:
    """Find a basis of the products of up to `correlation` ≤ 3 copies of A that have degree 0 … `output_degree`.

    Degrees of the factors ascend; couplings of equal ones depend on one another, so of all couplings, in order, those are
    kept whose values on random tensors do not follow from those before.
    """
    components = (max_degree + 1) ** 2
    factors = np.array(list(itertools.combinations_with_replacement(range(components), 2))).T
    named = _pairs(max_degree, output_degree, factors) if correlation > 2 else {}
    pairs = np.concatenate([np.zeros((0, factors.shape[1])), *named.values()])
    tensors = np.random.default_rng(0).standard_normal((60, components))
    stacked = np.concatenate([np.ones((60, 1)), tensors, tensors[:, factors[0]] * tensors[:, factors[1]] @ pairs.T], 1)
    chosen = []
    for degree in range(output_degree + 1):
        candidates = [*_single(max_degree, degree), *_double(max_degree, degree), *_triple(max_degree, degree, named)]
        chosen.append(_independent(candidates, stacked, tensors))
    every = [(degree, product) for degree, found in enumerate(chosen) for product in found]
    source = np.concatenate([np.array(product.source) for _, product in every])
    used = np.unique(source[source > components])
    ends = np.cumsum([0, *(len(product.source) for _, product in every)])
    sums = np.zeros(((output_degree + 1) ** 2, components, ends[-1]))
    for (degree, product), start, stop in zip(every, ends[:-1], ends[1:], strict=True):
        sums[rows_of(degree), rows_of(product.last), start:stop] = product.matrix.transpose(2, 1, 0)
    return Products(
        factors=factors,
        pairs=pairs[used - components - 1],
        source=np.where(source > components, components + 1 + np.searchsorted(used, source), source),
        path=np.repeat(np.arange(len(every)), np.diff(ends)),
        sums=sums.reshape(-1, ends[-1]),
        num_paths=tuple(len(found) for found in chosen),
        orders=tuple(product.order for _, product in every),
    )


Pairs = dict[tuple[int, int, int], Array]
"""Coupled pairs by their three degrees: matrices (2l + 1, num_monomials)."""


def _pairs(max_degree: int, output_degree: int, factors: Indices) -> Pairs:
    degrees = itertools.combinations_with_replacement(range(max_degree + 1), 2)
    found: Pairs = {}
    for first, second in degrees:
        for both in range(second - first, min(first + second, max_degree + output_degree) + 1):
            if first == second and both % 2:
                continue  # antisymmetric
            square = np.zeros(((max_degree + 1) ** 2,) * 2 + (2 * both + 1,))
            square[rows_of(first), rows_of(second)] = coupling(first, second, both)
            square += square.transpose(1, 0, 2)
            found[first, second, both] = (
                square[factors[0], factors[1]] * np.where(factors[0] == factors[1], 0.5, 1.0)[:, None]
            ).T
    return found


def _single(max_degree: int, degree: int) -> list[_Product]:
    return [_Product(1, range(1), degree, np.eye(2 * degree + 1)[None])] if degree <= max_degree else []


def _double(max_degree: int, degree: int) -> list[_Product]:
    degrees = itertools.combinations_with_replacement(range(max_degree + 1), 2)
    found = [(a, b) for a, b in degrees if couples(a, b, degree) and (a + b + degree) % 2 == 0]
    return [_Product(2, range(1 + a * a, 1 + (a + 1) ** 2), b, coupling(a, b, degree)) for a, b in found]


def _triple(max_degree: int, degree: int, pairs: Pairs) -> list[_Product]:
    found, start = [], 1 + (max_degree + 1) ** 2
    for (first, second, both), matrix in pairs.items():
        source = range(start, start + len(matrix))
        start = source.stop
        for last in range(second, max_degree + 1):
            if couples(both, last, degree) and (first + second + last + degree) % 2 == 0:
                found.append(_Product(3, source, last, coupling(both, last, degree)))
    return found


def _independent(candidates: list[_Product], stacked: Array, tensors: Array) -> list[_Product]:
    kept: list[_Product] = []
    basis = np.zeros((0, 0))
    for each in candidates:
        values = np.einsum("nr,nm,rmo->no", stacked[:, each.source], tensors[:, rows_of(each.last)], each.matrix).ravel()
        values /= np.linalg.norm(values)
        rest = values
        for _ in range(2 if kept else 0):  # twice, for the digits that the first projection loses
            rest = rest - basis.T @ (basis @ rest)
        if np.linalg.norm(rest) > 1e-6:
            kept.append(each)
            basis = np.concatenate([basis.reshape(-1, len(rest)), rest[None] / np.linalg.norm(rest)])
    return kept
