"""Scores by which candidates compare, the best of them, and their distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 40


@dataclass(frozen=True)
class Score:
    """A quantity to rank by.

    Attributes:
        name: Its name in the campaign file; also a variable of the screened shards.
        unit: Its unit.
        high_first: Whether high values come first.
        meaning: One sentence, kept with every ranking.
    """

    name: str
    unit: str
    high_first: bool
    meaning: str

    @property
    def order(self) -> str:
        """Return which end comes first, in words."""
        return "high first" if self.high_first else "low first"

    def key(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what to sort by, ascending."""
        return -values if self.high_first else values


SCORES = {
    score.name: score
    for score in (
        Score(
            "residual_per_atom",
            "eV/atom",
            False,
            "Blended energy per atom after per-element references; compares structures of one formula.",
        ),
        Score("largest_force", "eV/Å", False, "Largest force on an atom: how far a structure is from equilibrium."),
        Score(
            "branch_spread",
            "eV/atom",
            True,
            "Standard deviation of the residual energy per atom over the branches that know the structure; needs two.",
        ),
    )
}


@dataclass(frozen=True)
class Ranking:
    """The best candidates by one score.

    Attributes:
        values: Scores, best first, (k,).
        index: Position of each in the candidates' store, (k,).
    """

    values: NDArray[np.float64]
    index: NDArray[np.int64]

    @classmethod
    def of(cls, score: Score, top: int, values: NDArray[np.float64], index: NDArray[np.int64]) -> Ranking:
        """Return the best `top`; what has no score is left out, ties go to the lower index."""
        scored = np.isfinite(values)
        values, index = values[scored], index[scored]
        order = np.lexsort((index, score.key(values)))[:top]
        return cls(values[order], index[order])

    @classmethod
    def join(cls, rankings: Sequence[Ranking], score: Score, top: int) -> Ranking:
        """Return the best `top` of disjoint candidates' rankings."""
        values, index = (np.concatenate([getattr(each, name) for each in rankings]) for name in ("values", "index"))
        return cls.of(score, top, values, index)


def spread(branches: NDArray[np.float64], known: NDArray[np.bool_], atoms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the standard deviation over the branches that know a structure, eV/atom, (n,); NaN where fewer than two do.

    Args:
        branches: Residual energy by each branch, eV, (n, num_branches).
        known: Which branches know a structure, (n, num_branches).
        atoms: Atoms of each structure, (n,).
    """
    count = known.sum(1)
    per_atom = np.where(known, branches, 0.0) / atoms[:, None]
    mean = per_atom.sum(1) / np.maximum(count, 1)
    squares = np.where(known, (per_atom - mean[:, None]) ** 2, 0.0).sum(1) / np.maximum(count, 1)
    return np.where(count >= 2, np.sqrt(squares), np.nan)


def largest_force(forces: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the largest force on an atom of each structure, eV/Å, (n,)."""
    return np.maximum.reduceat(np.linalg.norm(forces, axis=1), offsets[:-1])


def histogram(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    """Count finite values in `BINS` equal bins of [low, high]; histograms of disjoint values add up."""
    return np.histogram(values[np.isfinite(values)], bins=BINS, range=(low, high))[0]


def histogram_json(counts: NDArray[np.int64], low: float, high: float, unit: str) -> dict[str, Any]:
    """Return a histogram as JSON values."""
    return {"edges": np.linspace(low, high, BINS + 1).tolist(), "counts": counts.tolist(), "unit": unit}
