"""Say before a launch whether a trial fits into a device's memory, and into anybody's patience."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import TrainConfig
from model.draws import Portion, parts
from model.feasibility import LARGE, LONGEST_STEP_S, MARGIN, Batch, large_structure_gflop, neighbors, training_gb
from model.layout import ATOM_COST, branch_parallel
from model.outcome import Cause, read_json
from model.specs import BatchBudget, ModelSpec

Facts = Mapping[str, Mapping[str, Any]]
"""By branch, what its conversion found: `structures`, `atoms`, `largest` (atoms of the largest), and `folder`, its store."""
_DEVIATIONS = 3.0
"""Standard deviations above the mean of a sum that one batch in a thousand exceeds."""


@dataclass(frozen=True)
class Load:
    """What one rank has to hold.

    Attributes:
        heads: Branches on it.
        batch: What it computes at once.
    """

    heads: int
    batch: Batch


@dataclass(frozen=True)
class _Counted:
    """Atoms or edges of a branch's structures: their mean, standard deviation and most."""

    mean: float
    deviation: float
    largest: float

    @property
    def high(self) -> float:
        """Return what one structure may have."""
        return min(self.largest, self.mean + _DEVIATIONS * self.deviation)

    def times(self, factor: float) -> _Counted:
        """Return the same of something that each of them has so often."""
        return _Counted(factor * self.mean, factor * self.deviation, factor * self.largest)


@dataclass(frozen=True)
class _Structures:
    """A branch's structures.

    Attributes:
        share: Its part of the draws.
        atoms: Of a structure.
        edges: Of a structure.
    """

    share: float
    atoms: _Counted
    edges: _Counted

    @property
    def cost(self) -> float:
        """Return what a mean one costs in a step, in units of an edge."""
        return self.edges.mean + ATOM_COST * self.atoms.mean


def loads_of(config: TrainConfig, facts: Facts, ranks: int) -> list[Load]:
    """Foretell what ranks hold: one load for each set of branches that a rank may have.

    Args:
        config: The training.
        facts: Of all its branches.
        ranks: Ranks that divide the batch.
    """
    known = _structures(config, facts)
    if config.layout == "data":
        return [Load(len(known), batch_of(config, facts, ranks))]
    listed, drawn = list(known.values()), _drawn(config, known.values())
    layout = branch_parallel([each.share * each.cost for each in listed], ranks)
    sets = dict.fromkeys(layout.branches_of(rank) for rank in range(ranks))
    return [Load(len(own), _batch(config, [listed[b] for b in own], drawn, len(layout.holders[own[0]]))) for own in sets]


def batch_of(config: TrainConfig, facts: Facts, ranks: int) -> Batch:
    """Foretell what a rank that holds all branches computes at once: its part of a global batch, or a piece of that.

    Draws go to branches evenly, so their numbers of structures are known; sizes within a branch vary. A batch is taken to be
    as large as one in a thousand, and a rank to hold at least one structure that is as large as one in a thousand. Edges are
    those that `campaign datasets edges` has counted beside the store, for the same cutoff and cap; where it has not, atoms have
    as many neighbours as in dense matter, and sizes deviate by their mean, or less where the largest structure leaves less.

    Args:
        config: The training.
        facts: Of all its branches.
        ranks: Ranks that divide the batch.
    """
    known = list(_structures(config, facts).values())
    return _batch(config, known, _drawn(config, known), ranks)


def refusal(
    config: TrainConfig, facts: Facts, ranks: int, memory_gb: float, gflop_per_s: float | None
) -> tuple[Cause, str] | None:
    """Return why a training cannot run on these devices, and whose fault that is; None where it can.

    Args:
        config: The training.
        facts: Of all its branches.
        ranks: Ranks of the training, one on each device.
        memory_gb: Memory of a device, GB.
        gflop_per_s: Arithmetic that a device sustains, GFLOP/s; None where nobody says.
    """
    need, load = max(
        ((needed_gb(config, each, ranks), each) for each in loads_of(config, facts, ranks)), key=lambda pair: pair[0]
    )
    if MARGIN * need > memory_gb:
        seen = f"{load.batch.atoms} atoms and {load.batch.edges} edges"
        what = f"needs about {need:.1f} GB for {seen}, {MARGIN * need:.1f} GB with a margin; a device has {memory_gb:g} GB"
        return Cause.OOM, what
    seconds = large_structure_gflop(config.model) / gflop_per_s if gflop_per_s else 0.0
    if seconds > LONGEST_STEP_S:
        what = f"a training step on one structure of {LARGE} atoms takes about {seconds:.0f} s of a device"
        return Cause.BAD_CONFIG, f"{what}; more than {LONGEST_STEP_S:g} s is out of reason"
    return None


def needed_gb(config: TrainConfig, load: Load, ranks: int) -> float:
    """Return the memory that a training takes on one device, in GB."""
    return training_gb(config, load.heads, ranks, load.batch)


def _structures(config: TrainConfig, facts: Facts) -> dict[str, _Structures]:
    to_train = 1 - config.splits.validation - config.splits.test
    given = {
        name: Portion(round(to_train * facts[name]["structures"]), branch.share, branch.draws)
        for name, branch in config.branches.items()
    }
    share = parts(given, config.fraction, config.temperature)
    found = {}
    for name in config.branches:
        mean = facts[name]["atoms"] / max(1, facts[name]["structures"])
        largest = max(mean, facts[name].get("largest", mean))
        atoms = _Counted(mean, min(mean, math.sqrt(mean * (largest - mean))), largest)
        counted = _counted_edges(config.model, facts[name].get("folder"))
        found[name] = _Structures(share[name], atoms, counted or atoms.times(neighbors(config.model, mean)))
    return found


def _counted_edges(model: ModelSpec, store: Path | None) -> _Counted | None:
    """Return the edges of a store's structures where they stand beside it, for this cutoff and cap (form: `docs/store.md`)."""
    if store is None:
        return None
    for path in sorted(store.with_name(f"{store.name}.edges").glob("*/counts.json")):
        found = read_json(path) or {}
        is_same = (found.get("cutoff_angstrom"), found.get("max_neighbors")) == (model.cutoff, model.max_neighbors)
        if is_same and found.get("edges") and found.get("store_sha256") == _hash(store / "manifest.json"):
            return _Counted(**found["edges"])
    return None


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _drawn(config: TrainConfig, branches: Iterable[_Structures]) -> float:
    """Return the structures of a global batch; of a budget as many mean ones as it holds."""
    if not isinstance(config.batch, BatchBudget):
        return config.batch
    of_atoms = config.batch.atoms is not None
    each = sum(b.share * (b.atoms if of_atoms else b.edges).mean for b in branches)
    return config.batch.most / max(each, 1.0)


def _batch(config: TrainConfig, own: Sequence[_Structures], drawn: float, ranks: int) -> Batch:
    """Return what one of the ranks computes at once that hold some branches, of so many structures in a global batch.

    With `micro_batch: auto` one structure must fit, no more.
    """
    varies = not isinstance(config.batch, BatchBudget)  # what is filled to a budget does not exceed it
    share = sum(each.share for each in own)
    of_a_rank = max(math.ceil(share * drawn / ranks) if varies else share * drawn / ranks, 1.0)
    most = 1 if config.micro_batch == "auto" else config.micro_batch
    if most is not None and most < of_a_rank:
        of_a_rank, ranks = most, 1
    counts = [ranks * of_a_rank * each.share / (share or 1.0) for each in own]
    atoms = _part([each.atoms for each in own], counts, ranks, varies=varies)
    edges = _part([each.edges for each in own], counts, ranks, varies=varies)
    mean = sum(n * each.edges.mean for n, each in zip(counts, own, strict=True))
    pairs = sum(n * each.edges.mean**2 / max(each.atoms.mean, 1.0) for n, each in zip(counts, own, strict=True))
    return Batch(math.ceil(atoms), math.ceil(edges), math.ceil(edges * pairs / max(mean, 1.0)))


def _part(counted: Sequence[_Counted], counts: Sequence[float], ranks: int, *, varies: bool) -> float:
    """Return the atoms or edges of a rank's part of so many structures of each branch: of one structure at least."""
    pairs = list(zip(counts, counted, strict=True))
    mean = sum(n * each.mean for n, each in pairs)
    spread = math.sqrt(sum(n * each.deviation**2 for n, each in pairs)) if varies else 0.0
    most = sum(n * each.largest for n, each in pairs)
    return max(min(mean + _DEVIATIONS * spread, most) / ranks, *(each.high for each in counted))
