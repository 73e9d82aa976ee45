"""What a branch predicts that is no energy: a scalar or a class of a structure, and the numbers it is learned by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.data import references
from model.data.block import Block
from model.outcome import CampaignError
from model.specs import Splits

Kind = Literal["scalar", "class"]
_SMALLEST_SPREAD = 1e-9
"""Share of the largest target; below it, rounding is all that targets differ by."""


@dataclass(frozen=True)
class Target:
    """A scalar or class as a branch's training split knows it. It has no per-element references: it is intensive.

    Attributes:
        kind: A scalar is learned as spreads about the mean, a class (0 or 1) as log-odds of 1.
        unit: Of a scalar; empty for a class.
        mean: Mean over the training split; of a class, the share of 1.
        spread: Standard deviation over the training split; of a class, of 0 and 1.
        composition: A scalar as a mean of one number for each element, by atomic number: least squares on the training
            split. The model knows nothing of it; it is what the model is compared with.
    """

    kind: Kind
    unit: str
    mean: float
    spread: float
    composition: dict[int, float]

    def normalize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return targets as the model learns them: spreads about the mean; classes as they are."""
        return (values - self.mean) / self.spread if self.kind == "scalar" else values

    def restore(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a model's outputs as scalars in `unit`, or as probabilities of class 1."""
        return self.mean + self.spread * outputs if self.kind == "scalar" else 0.5 * (1.0 + np.tanh(0.5 * outputs))

    def by_composition(self, numbers: NDArray[np.integer], num_atoms: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the composition's scalar of each structure, (n,); the mean where an element is not known.

        Args:
            numbers: Atomic numbers, (num_atoms,).
            num_atoms: Atoms of each structure, (n,).
        """
        table = np.full(256, np.nan)
        table[list(self.composition)] = list(self.composition.values())
        structure = np.repeat(np.arange(len(num_atoms)), num_atoms)
        found = np.bincount(structure, table[numbers], len(num_atoms)) / num_atoms
        return np.where(np.isfinite(found), found, self.mean)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` is the inverse, bit for bit."""
        return vars(self) | {"composition": {str(z): value for z, value in self.composition.items()}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Target:
        """Rebuild what `to_json` gave."""
        return cls(**{**fields, "composition": {int(z): value for z, value in fields["composition"].items()}})


@dataclass(frozen=True)
class Labels:
    """What a fit needs to know of some structures' targets.

    Attributes:
        values: The targets that there are.
        moments: Those of the energies that these structures would have, were the targets energies per atom.
    """

    values: NDArray[np.float64]
    moments: references.Moments

    @classmethod
    def of(cls, block: Block) -> Labels:
        """Return the labels of all structures of a block; missing ones do not count."""
        known = block.take(np.isfinite(block.target))
        alike = replace(known, energy=known.target * known.num_atoms, forces=np.full_like(known.forces, np.nan))
        return cls(known.target, references.Moments.of(alike))

    @classmethod
    def sum(cls, parts: Sequence[Labels]) -> Labels:
        """Join labels; the order of the parts decides the last bits."""
        return cls(np.concatenate([part.values for part in parts]), references.Moments.sum(part.moments for part in parts))


def fit(labels: Labels, declared: tuple[Kind, str], splits: Splits, where: str) -> Target:
    """Return a target as its training split knows it.

    Args:
        labels: Of the training split.
        declared: Kind and unit, as the store states them.
        splits: What the split was made by.
        where: The store, to be named.

    Raises:
        CampaignError: Nothing is labelled, all labels are the same, or a class is neither 0 nor 1.
    """
    kind, unit = declared
    values = labels.values
    _require_learnable(values, kind, where)
    fitted = references.solve(labels.moments, splits) if kind == "scalar" else None
    return Target(kind, unit, float(values.mean()), float(values.std()), {} if fitted is None else fitted.energies)


def _require_learnable(values: NDArray[np.float64], kind: Kind, where: str) -> None:
    if len(values) == 0:
        raise CampaignError(f"no {kind} to predict in the training split", where, "Give a task with labels.")
    if kind == "class" and not np.isin(values, (0.0, 1.0)).all():
        wrong = values[~np.isin(values, (0.0, 1.0))][0]
        raise CampaignError(f"a class is {wrong:g}, neither 0 nor 1", where, "Mend the reader.")
    if np.ptp(values) <= _SMALLEST_SPREAD * np.abs(values).max():
        what = f"every {kind} of the training split is {values[0]:g}: there is nothing to learn"
        raise CampaignError(what, where, "Convert more data, or change `splits`.")
