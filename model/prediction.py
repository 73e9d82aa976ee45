"""What a model needs to know of its data, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from model.data.targets import Target


@dataclass(frozen=True)
class Statistics:
    """Numbers of the training split by which the network works at unit scale.

    Attributes:
        average_neighbors: Mean number of neighbours of an atom.
        energy_scale: For each branch, the energy in eV/atom that a head's unit stands for. A good choice is the RMS force
            of the branch in eV/Å times 1 Å, because forces are most of the labels.
        force_scale: eV/Å that a force head's unit stands for.
        neighbor_means: Means over atoms of what the backbone's `neighbor_statistics` give, by name.
        targets: What those branches predict that predict no energy, by branch.
    """

    average_neighbors: float
    energy_scale: tuple[float, ...]
    force_scale: float = 1.0
    neighbor_means: dict[str, float] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What a model says about a batch.

    Attributes:
        energy: Residual energy after the branch's references, eV, (num_graphs,); NaN where the branch predicts a target.
        forces: eV/Å, (num_atoms, 3); NaN where the branch predicts a target, or where they were not asked for.
        target: A scalar as spreads about its mean, or the log-odds of a class, (num_graphs,); NaN where the branch predicts
            energies, None where all do.
        is_class: Whether a structure's branch predicts a class, (num_graphs,) bool; None where all predict energies.
    """

    energy: Tensor
    forces: Tensor
    target: Tensor | None = None
    is_class: Tensor | None = None


@dataclass(frozen=True)
class Blend:
    """What all branches say about a batch, and their weighted mean.

    Attributes:
        branches: Residual energy by each branch, eV, (num_branches, num_graphs).
        energy: Σ_b w_b E_b, eV, (num_graphs,).
        forces: −dΣ_b w_b E_b/dx, eV/Å, (num_atoms, 3).
    """

    branches: Tensor
    energy: Tensor
    forces: Tensor
