"""Say before a launch whether a trial fits into a device's memory."""

from __future__ import annotations

import math
from typing import Any

from model.config import TrainConfig
from model.draws import Portion, parts
from model.feasibility import MARGIN, Batch, neighbors, num_parameters, peak_memory_gb
from model.specs import BatchBudget


def batch_of(config: TrainConfig, facts: dict[str, dict[str, Any]], ranks: int) -> Batch:
    """Estimate what a rank computes at once from what the conversion counted: its part of a global batch, or a piece of that.

    Args:
        config: The training.
        facts: By branch: `structures` and `atoms` of its store, and `edges_per_atom` where it was counted.
        ranks: Ranks that divide the batch.
    """
    to_train = 1 - config.splits.validation - config.splits.test
    given = {
        name: Portion(round(to_train * facts[name]["structures"]), branch.share, branch.draws)
        for name, branch in config.branches.items()
    }
    share = parts(given, config.fraction, config.temperature)
    atoms = edges = triplets = 0.0  # of a structure, on average
    for name in config.branches:
        size = facts[name]["atoms"] / max(1, facts[name]["structures"])
        near = neighbors(config.model, size)
        atoms += share[name] * size
        edges += share[name] * size * near
        triplets += share[name] * size * near**2
    count = _at_once(config, _of_a_rank(config, ranks, atoms, edges))
    return Batch(math.ceil(count * atoms), math.ceil(count * edges), math.ceil(count * triplets))


def _of_a_rank(config: TrainConfig, ranks: int, atoms: float, edges: float) -> float:
    """Return the structures of a rank's part of a global batch; of a budget as many mean ones as it holds, one at least."""
    if not isinstance(config.batch, BatchBudget):
        return math.ceil(config.batch / ranks)
    each = atoms if config.batch.atoms is not None else edges
    return max(config.batch.most / ranks / max(each, 1.0), 1.0)


def _at_once(config: TrainConfig, structures: float) -> float:
    """Return how many of a rank's structures are in memory at once; with `micro_batch: auto` one must fit, no more."""
    most = 1 if config.micro_batch == "auto" else config.micro_batch
    return structures if most is None else min(most, structures)


def refusal(config: TrainConfig, batch: Batch, memory_gb: float) -> str:
    """Return why a training cannot run within `memory_gb` of a device; empty where it can."""
    need = needed_gb(config, batch)
    if MARGIN * need <= memory_gb:
        return ""
    seen = f"{batch.atoms} atoms and {batch.edges} edges"
    return f"needs about {need:.1f} GB for {seen}, {MARGIN * need:.1f} GB with a margin; a device has {memory_gb:g} GB"


def needed_gb(config: TrainConfig, batch: Batch) -> float:
    """Return the memory that a training step takes on one device, in GB."""
    step = peak_memory_gb(config.model, len(config.branches), batch, config.precision)
    average = num_parameters(config.model, len(config.branches)) * (8 if config.precision == "fp64" else 4) / 1e9
    return step + (average if config.optimizer.ema else 0.0)
