"""Per-element reference energies, fitted on a training split, and the spreads that objectives are measured in.

The fit minimises Σ (E/N − Σ_Z f_Z e_Z)², f_Z the share of element Z in the structure: least squares of the
energy per atom, the quantity that the loss compares. The shares of one structure add to one, so the residuals'
mean is zero without an extra constant. Everything is found from the triangular factor of a QR decomposition,
which is small, adds up over shards in a fixed order, and never squares the condition number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data import splits as splitting
from model.data.block import Block
from model.outcome import read_json, write_json
from model.specs import Splits

CUT = 1e-8
"""Singular values below this share of the largest count as zero: the minimum-norm solution is taken there."""
NUM_ELEMENTS = 119


@dataclass(frozen=True)
class References:
    """Reference energies of one branch.

    Attributes:
        energies: eV per atom of each element that the training split has, by atomic number.
        sigma_energy: Standard deviation of the residual energy per atom on the training split, eV/atom.
        rms_force: Root mean square force component on the training split, eV/Å; NaN without forces.
        count: Structures the fit saw.
        rank: Rank of the fit; below the number of elements, the solution of least norm was taken, or the nearest to a model's.
        splits: Seed and shares of the split it was fitted on.
    """

    energies: dict[int, float]
    sigma_energy: float
    rms_force: float
    count: int
    rank: int
    splits: Splits

    @property
    def elements(self) -> frozenset[int]:
        """Return the atomic numbers that the training split knows."""
        return frozenset(self.energies)

    @property
    def is_determined(self) -> bool:
        """Return whether the training split parts all its elements."""
        return self.rank == len(self.energies)

    def of(self, numbers: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the reference energy of each structure in eV, (n,); NaN where an element is unknown."""
        table = np.full(256, np.nan)
        table[list(self.energies)] = list(self.energies.values())
        if len(offsets) == 1:
            return np.zeros(0)
        return np.add.reduceat(np.append(table[numbers], 0.0), offsets[:-1])

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` is the inverse, bit for bit."""
        return {
            "energies_ev": {str(z): e for z, e in sorted(self.energies.items())},
            "sigma_energy_ev_per_atom": self.sigma_energy,
            "rms_force_ev_per_angstrom": None if np.isnan(self.rms_force) else self.rms_force,
            "structures": self.count,
            "rank": self.rank,
            "cut": CUT,
            "splits": self.splits.model_dump(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> References:
        """Rebuild what `to_json` gave."""
        rms = fields["rms_force_ev_per_angstrom"]
        return cls(
            energies={int(z): float(e) for z, e in fields["energies_ev"].items()},
            sigma_energy=fields["sigma_energy_ev_per_atom"],
            rms_force=float("nan") if rms is None else rms,
            count=fields["structures"],
            rank=fields["rank"],
            splits=Splits(**fields["splits"]),
        )


@dataclass(frozen=True)
class Moments:
    """What a fit needs to know of some structures; small, and can be added.

    Attributes:
        triangle: R of the QR decomposition of [shares | energy per atom], (k, NUM_ELEMENTS + 1), k ≤ NUM_ELEMENTS + 1.
        count: Structures with an energy.
        force_sum: Sum of squared force components, (eV/Å)².
        force_count: Number of force components.
    """

    triangle: NDArray[np.float64]
    count: int
    force_sum: float
    force_count: int

    @classmethod
    def of(cls, block: Block) -> Moments:
        """Return the moments of all structures of a block; missing labels do not count."""
        known = np.isfinite(block.energy)
        rows = np.concatenate([_shares(block)[known], (block.energy / block.num_atoms)[known, None]], axis=1)
        forces = block.forces[np.isfinite(block.forces)]
        return cls(_triangle(rows), int(known.sum()), float(np.sum(forces**2)), forces.size)

    @classmethod
    def sum(cls, parts: Iterable[Moments]) -> Moments:
        """Add moments; the order of the parts decides the last bits."""
        parts = list(parts)
        rows = np.concatenate([np.zeros((0, NUM_ELEMENTS + 1)), *(p.triangle for p in parts)])
        force_sum = float(sum(p.force_sum for p in parts))
        return cls(_triangle(rows), sum(p.count for p in parts), force_sum, sum(p.force_count for p in parts))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values with empty columns left out."""
        used = np.flatnonzero(np.any(self.triangle != 0, axis=0))
        return {
            "columns": used.tolist(),
            "triangle": self.triangle[:, used].tolist(),
            "count": self.count,
            "force_sum": self.force_sum,
            "force_count": self.force_count,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Moments:
        """Rebuild what `to_json` gave, bit for bit."""
        triangle = np.zeros((len(fields["triangle"]), NUM_ELEMENTS + 1))
        if fields["columns"]:
            triangle[:, fields["columns"]] = fields["triangle"]
        return cls(triangle, fields["count"], fields["force_sum"], fields["force_count"])


def fit(block: Block, splits: Splits, near: Sequence[References] = ()) -> References | None:
    """Fit references on the training split of a block; None where it has no energies. See `solve`."""
    return solve(training_moments(block, splits), splits, near)


def training_moments(block: Block, splits: Splits) -> Moments:
    """Return the moments of the training split of a block."""
    return Moments.of(block.take(splitting.split(block.identity, splits) == splitting.TRAIN))


def solve(moments: Moments, splits: Splits, near: Sequence[References] = ()) -> References | None:
    """Solve for reference energies by the pseudo-inverse of the triangle, cut at `CUT`; None without energies.

    Where elements never part, many references fit equally well, and the least in norm are eV off for other compositions.
    With `near`, those are taken that are nearest to references which were fitted on more: of the ones that know all
    elements, to those that fit this split best.

    Args:
        moments: Of the training split.
        splits: What it was divided by.
        near: References of a trained model's branches.
    """
    if moments.count == 0:
        return None
    known = np.flatnonzero(np.any(moments.triangle[:, :-1] != 0, axis=0))
    shares, target = moments.triangle[:, known], moments.triangle[:, -1]
    energies, _, rank, _ = np.linalg.lstsq(shares, target, rcond=CUT)
    elements = known.tolist()
    starts = [np.array([each.energies[z] for z in elements]) for each in near if each.elements.issuperset(elements)]
    if rank < len(known) and starts:
        start = min(starts, key=lambda each: float(np.linalg.norm(shares @ each - target)))
        energies = start + np.linalg.lstsq(shares, target - shares @ start, rcond=CUT)[0]
    residual = shares @ energies - target
    rms = np.sqrt(moments.force_sum / moments.force_count) if moments.force_count else np.nan
    return References(
        energies={int(z): float(e) for z, e in zip(known, energies, strict=True)},
        sigma_energy=float(np.sqrt(residual @ residual / moments.count)),
        rms_force=float(rms),
        count=moments.count,
        rank=int(rank),
        splits=splits,
    )


def write(path: Path, references: References) -> None:
    """Write references as JSON, whole or not at all."""
    write_json(path, references.to_json())


def read(path: Path) -> References | None:
    """Return the references in `path`, or None where the source had no energies."""
    fields = read_json(path)
    return None if fields is None else References.from_json(fields)


def _shares(block: Block) -> NDArray[np.float64]:
    structure = np.repeat(np.arange(len(block)), block.num_atoms)
    flat = np.bincount(structure * NUM_ELEMENTS + block.numbers, minlength=len(block) * NUM_ELEMENTS)
    return flat.reshape(len(block), NUM_ELEMENTS) / block.num_atoms[:, None]


def _triangle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R of rows, block by block, so that memory stays bounded; columns without an entry stay exactly zero."""
    used = np.flatnonzero(np.any(rows != 0, axis=0))
    factor: Any = np.zeros((0, len(used)))
    for start in range(0, len(rows), 65536):
        factor = np.linalg.qr(np.concatenate([factor, rows[start : start + 65536, used]]), mode="r")
    full = np.zeros((len(factor), rows.shape[1]))
    full[:, used] = factor
    return full
