"""Errors in meV/atom and meV/Å beside what knows nothing, and the objective by which trials compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.parallel import Ranks
from model.training.loss import Deviations

COLUMNS = 10
_MILLI = 1000.0


@dataclass(frozen=True)
class Scales:
    """The spreads of a branch's training split.

    Attributes:
        sigma_energy: Spread of the residual energy per atom, eV/atom; None without energies.
        rms_force: RMS force component, eV/Å; None without forces.
        sigma_target: Spread of a scalar, in its unit; None without one.
    """

    sigma_energy: float | None
    rms_force: float | None
    sigma_target: float | None = None


class LargestErrors:
    """Keep the largest error of each branch's energies and force components: it is no sum over structures.

    Args:
        branches: Branches, as `AtomGraph.branch` counts.
    """

    def __init__(self, branches: Sequence[str]) -> None:
        self._branches = tuple(branches)
        self._largest = torch.zeros(len(self._branches), 2, dtype=torch.float64)

    def see(self, deviations: Deviations) -> None:
        """Take in one batch; what has no label counts as no error."""
        graph = deviations.graph
        by_graph = graph.branch.cpu()
        of_atoms = deviations.forces.detach().abs().amax(1)
        for column, branch, errors in (
            (0, by_graph, deviations.energy.detach().abs()),
            (1, by_graph[graph.graph.cpu()], of_atoms),
        ):
            self._largest[:, column] = self._largest[:, column].scatter_reduce(0, branch, errors.to("cpu", torch.float64), "amax")

    def metrics(self, ranks: Ranks) -> dict[str, dict[str, float]]:
        """Return the largest errors by branch over all ranks, equal on all of them; 0 where there are no labels."""
        largest = _MILLI * torch.stack(ranks.allgather(self._largest)).amax(0)
        keys = ("energy_max_error_mev_per_atom", "force_max_error_mev_per_angstrom")
        return {name: dict(zip(keys, row.tolist(), strict=True)) for name, row in zip(self._branches, largest, strict=True)}


def error_sums(
    model: MultiTaskModel, graphs: Iterable[AtomGraph], own: Sequence[int], num_branches: int, see: Callable[[Deviations], None]
) -> Tensor:
    """Add up errors over graphs: (num_branches, COLUMNS) float64; sums of ranks add up.

    Args:
        model: With the branches `own`.
        graphs: Batches.
        own: Index of each of the model's branches among all branches.
        num_branches: Number of all branches.
        see: Called after every graph, with its deviations.
    """
    sums = torch.zeros(num_branches, COLUMNS, dtype=torch.float64)
    for graph in graphs:
        has_forces = bool(torch.isfinite(graph.forces).any())
        deviations = Deviations(model.predict(graph, training=False, forces=has_forces), graph)
        sums[list(own)] += _sums_of(deviations, graph, len(own)).cpu()
        see(deviations)
    return sums


def metrics_of(row: Tensor) -> dict[str, Any]:
    """Turn one branch's sums (COLUMNS,) into metrics with units in their names; None where there are no labels.

    The energy baseline is the per-element linear fit alone (the label is the residual after it); the force
    baseline is zero.
    """
    energies, forces = float(row[0]), float(row[5])
    return {
        "energy_mae_mev_per_atom": _mean(row[1], energies),
        "energy_rmse_mev_per_atom": _root_mean(row[2], energies),
        "energy_baseline_mev_per_atom": _mean(row[3], energies),
        "force_mae_mev_per_angstrom": _mean(row[6], forces),
        "force_rmse_mev_per_angstrom": _root_mean(row[7], forces),
        "force_baseline_mev_per_angstrom": _mean(row[8], forces),
        "num_structures": int(row[4]),
        "num_energies": int(energies),
        "num_force_components": int(forces),
    }


def objective_of(metrics: Mapping[str, Mapping[str, Any]], scales: Mapping[str, Scales]) -> float | None:
    """Return the mean over branches of ½(E-MAE/σ_E + F-MAE/σ_F); a branch with one kind of label counts by that one alone.

    A scalar counts by MAE/σ, a class by 1 − ROC-AUC; on labels of one class, which have no such curve, by the share of wrong
    answers. None where no branch has a label to compare with; not finite where the model is not.
    """
    terms = [term for branch, values in metrics.items() if (term := _term(values, scales[branch])) is not None]
    return sum(terms) / len(terms) if terms else None


def is_finite(metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether every metric that has labels is a finite number."""
    numbers = (value for values in metrics.values() for value in values.values() if isinstance(value, int | float))
    return all(math.isfinite(value) for value in numbers)


def _term(values: Mapping[str, Any], scales: Scales) -> float | None:
    """Return one branch's part of the objective."""
    if values.get("kind") == "class":
        score = values["accuracy"] if values["roc_auc"] is None else values["roc_auc"]
        return None if score is None else 1.0 - score
    if values.get("kind") == "scalar":
        error, scale = values["target_mae"], scales.sigma_target
        return None if error is None or scale is None else error / scale
    pairs = (
        (values["energy_mae_mev_per_atom"], scales.sigma_energy),
        (values["force_mae_mev_per_angstrom"], scales.rms_force),
    )
    ratios = [error / (_MILLI * scale) for error, scale in pairs if error is not None and scale]
    return sum(ratios) / len(ratios) if ratios else None


def _sums_of(deviations: Deviations, graph: AtomGraph, num_branches: int) -> Tensor:
    """Return (num_branches, COLUMNS): count, |·|, ², baseline |·| of energies; structures; the same of forces; spare."""
    per_atom = torch.where(deviations.has_energy, graph.energy / graph.num_atoms, 0.0)
    labels = torch.where(deviations.has_forces, graph.forces, 0.0)
    columns = [
        (deviations.has_energy, deviations.has_forces),
        (deviations.energy.abs(), deviations.forces.abs()),
        (deviations.energy.square(), deviations.forces.square()),
        (per_atom.abs(), labels.abs()),
        (torch.ones_like(per_atom), torch.zeros_like(labels)),
    ]
    sums = [deviations.sums(e.to(torch.float64), f.to(torch.float64), num_branches) for e, f in columns]
    return torch.cat([torch.stack([s[0] for s in sums], 1), torch.stack([s[1] for s in sums], 1)], 1)


def _mean(total: Tensor, count: float) -> float | None:
    return _MILLI * float(total) / count if count else None


def _root_mean(total: Tensor, count: float) -> float | None:
    return _MILLI * math.sqrt(float(total) / count) if count else None
