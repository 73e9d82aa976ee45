"""Say before a launch whether a trial fits into a device's memory."""

from __future__ import annotations

import math
from typing import Any

from model.config import TrainConfig
from model.feasibility import MARGIN, Batch, neighbors, num_parameters, parts_of_a_batch, peak_memory_gb


def batch_of(config: TrainConfig, facts: dict[str, dict[str, Any]], ranks: int) -> Batch:
    """Estimate what a rank computes at once from what the conversion counted: its part of a global batch, or a piece of that.

    Args:
        config: The training.
        facts: By branch: `structures` and `atoms` of its store, and `edges_per_atom` where it was counted.
        ranks: Ranks that divide the batch.
    """
    given = {name: branch.share for name, branch in config.branches.items()}
    share = parts_of_a_batch(given, {name: facts[name]["structures"] for name in given}, config.temperature)
    structures = _at_once(config, math.ceil(config.batch / ranks))
    atoms = edges = triplets = 0.0
    for name in config.branches:
        size = facts[name]["atoms"] / max(1, facts[name]["structures"])
        part = structures * share[name] * size
        atoms += part
        near = neighbors(config.model, size)
        edges += part * near
        triplets += part * near**2
    return Batch(math.ceil(atoms), math.ceil(edges), math.ceil(triplets))


def _at_once(config: TrainConfig, structures: int) -> int:
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
