"""`python -m model blend`: learn branch weights from composition, on cached predictions of a frozen model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import BlendConfig
from model.data.block import Block
from model.data.part import Part
from model.data.store import Store
from model.device import device_of
from model.faults import Diverged
from model.inference import weights as branch_weights
from model.inference.predictor import Predictor, batches
from model.inference.weights import BlendMeta, BranchWeights
from model.outcome import CampaignError, Outcome, Status
from model.owner import StopFlag
from model.parallel import Ranks
from model.progress import Progress

FOLDER = "blend"
_MEV = 1000.0
_UNIT = 256
"""Structures of a store that are made into batches together, so that any number of ranks makes the same ones, to the last bit."""


@dataclass(frozen=True)
class Cache:
    """The frozen model's predictions for labelled structures, all that the weights are trained on.

    Attributes:
        composition: Share of each element, (n, 118).
        known: Which branches know every element, (n, num_branches) bool.
        residuals: Residual energy per atom by each branch, eV/atom, (n, num_branches); 0 where a branch does not know it.
        labels: Residual energy per atom of the label, by the references of its own branch, eV/atom, (n,).
        branch: Branch that the label comes from, (n,).
    """

    composition: torch.Tensor
    known: torch.Tensor
    residuals: torch.Tensor
    labels: torch.Tensor
    branch: torch.Tensor

    def take(self, rows: torch.Tensor) -> Cache:
        """Return some rows."""
        return Cache(*(value[rows] for value in vars(self).values()))


def run(config: BlendConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Predict once on all ranks, train the small network on rank 0, and write it."""
    start = time.monotonic()
    predictor = Predictor.load(config.checkpoint, precision=config.precision, device=device_of(config, ranks))
    _require_fitting(config, predictor)
    work = _Work(config, predictor, ranks, folder)
    caches = [work.cache(split) for split in ("train", "validation")]
    if work.stopped():
        return Outcome(Status.PARTIAL, message="stopped before the predictions were complete")
    result = ranks.bcast(_learn(work, *(cache for cache in caches if cache is not None)) if ranks.is_first else None)
    seconds = round(time.monotonic() - start, 3)
    return Outcome(Status.DONE, result=result | {"seconds": seconds}, outputs={"blend": FOLDER}, timings_s={"blend": seconds})


def _require_fitting(config: BlendConfig, predictor: Predictor) -> None:
    """Refuse branches that the model lacks, and splits under which the model's test data would be trained on."""
    for name in config.branches:
        predictor.branch(name)
    if config.splits != predictor.meta.splits:
        what = f"splits {config.splits} are not the model's ({predictor.meta.splits})"
        raise CampaignError(what, "splits", "Use the model's: under others, its test data would be trained on.")


class _Work:
    """The caching of predictions: each rank reads and predicts its part of every branch, block by block.

    Args:
        config: The task.
        predictor: The frozen model.
        ranks: All ranks.
        folder: Task folder.
    """

    def __init__(self, config: BlendConfig, predictor: Predictor, ranks: Ranks, folder: Path) -> None:
        self.config, self.predictor, self.ranks, self.folder = config, predictor, ranks, folder
        self.progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
        self._stop = StopFlag(config.stop)

    def stopped(self) -> bool:
        """Return whether any rank was asked to stop; all ranks call this together."""
        return any(self.ranks.allgather(self._stop.asked()))

    def cache(self, split: str) -> Cache | None:
        """Return the predictions for a split of all branches on the first rank, in the order of the stores; None elsewhere."""
        parts = {
            name: Part.of(Store.open(spec.store), self.config.splits, split, self.ranks, unit=_UNIT)
            for name, spec in self.config.branches.items()
        }
        total = sum(part.total for part in parts.values())
        self.progress.begin(f"predict {split}", total, "structures")
        own: dict[str, list[tuple[NDArray, ...]]] = {name: [_empty(self.predictor)] for name in parts}
        done = 0
        for name, block in self._batches(parts):
            if self._stop.asked():
                break
            own[name].append(_rows(self.predictor, self.predictor.branch(name), block))
            done += len(block)
            self.progress.update(f"predict {split}", done * self.ranks.size, total, "structures")
        told = self.ranks.gather(
            {name: [np.concatenate(column) for column in zip(*rows, strict=True)] for name, rows in own.items()}
        )
        if told is None:
            return None
        columns = zip(*(rank[name] for name in parts for rank in told), strict=True)
        return Cache(*(torch.from_numpy(np.concatenate(column)) for column in columns))

    def _batches(self, parts: Mapping[str, Part]) -> Iterator[tuple[str, Block]]:
        """Yield this rank's labelled structures that a branch knows, in batches of as many atoms as `batch` mean ones."""
        for name, part in parts.items():
            branch, store = self.predictor.branch(name), part.share.store
            budget = max(1, round(self.config.batch * store.num_atoms / max(store.num_structures, 1)))
            for _, found in part.blocks():
                block = found.take(np.isfinite(found.energy) & self.predictor.known(found)[:, branch])
                yield from ((name, block.take(rows)) for rows in batches(block.num_atoms, budget))


def _rows(predictor: Predictor, branch: int, block: Block) -> tuple[NDArray, ...]:
    known, atoms = predictor.known(block), block.num_atoms
    residuals = np.where(known, predictor.all_branches(block) / atoms[:, None], 0.0)
    labels = (block.energy - predictor.references(block)[:, branch]) / atoms
    return branch_weights.composition(block), known, residuals, labels, np.full(len(block), branch)


def _empty(predictor: Predictor) -> tuple[NDArray, ...]:
    wide = np.zeros((0, len(predictor.branches)))
    return np.zeros((0, branch_weights.NUM_ELEMENTS)), wide.astype(bool), wide, np.zeros(0), np.zeros(0, int)


def _learn(work: _Work, train: Cache, validation: Cache) -> dict[str, Any]:
    """Train the weights, write them, and return what they are worth."""
    config, predictor = work.config, work.predictor
    if len(train.labels) == 0:
        raise CampaignError("no energies to learn branch weights from", "branches", "Give branches that have energies.")
    network = BranchWeights(len(predictor.branches), config.hidden, seed=config.seed)
    losses = _fit(network, train, work)
    facts = {
        "metrics": _metrics(network, validation, predictor.branches),
        "structures": len(train.labels),
        "epochs": len(losses),
        "loss_mev_per_atom": [round(_MEV * losses[0], 6), round(_MEV * losses[-1], 6)],
    }
    meta = BlendMeta(predictor.branches, config.hidden, predictor.fingerprint, facts)
    branch_weights.save(work.folder / FOLDER, network, meta, config.owner)
    return facts


def _fit(network: BranchWeights, train: Cache, work: _Work) -> list[float]:
    """Minimise the mean over branches of |ΔE/N|, each branch by its weight; return the loss of each epoch.

    Raises:
        Diverged: A loss is not finite.
    """
    config = work.config
    counts = torch.bincount(train.branch, minlength=len(work.predictor.branches)).to(torch.float64)
    wanted = torch.tensor([config.branches[name].weight if name in config.branches else 0.0 for name in work.predictor.branches])
    scale = (wanted / counts.clamp(min=1))[train.branch] * len(train.labels) / wanted[counts > 0].sum()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    for epoch in range(config.epochs):
        total = 0.0
        order = torch.randperm(len(train.labels), generator=generator)
        for rows in (order[at : at + config.batch] for at in range(0, len(order), config.batch)):
            loss = (scale[rows] * (_blended(network, train.take(rows)) - train.labels[rows]).abs()).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(train.labels))
        if not np.isfinite(losses[-1]):
            raise Diverged(f"the loss of the branch weights is {losses[-1]} in epoch {epoch + 1}")
        work.progress.update("learn weights", epoch + 1, config.epochs, "epochs", objective=losses[-1])
    return losses


def _blended(network: BranchWeights, cache: Cache) -> torch.Tensor:
    weights: torch.Tensor = network(cache.composition, cache.known)
    return (weights * cache.residuals).sum(1)


def _metrics(network: BranchWeights, cache: Cache, branches: tuple[str, ...]) -> dict[str, Any]:
    """Return, for each branch's labels, the error of the blend beside the branch alone and the plain mean."""
    with torch.no_grad():
        weights = network(cache.composition, cache.known)
    plain = cache.known / cache.known.sum(1, keepdim=True).clamp(min=1)
    ways = {
        "energy_mae_mev_per_atom": (weights * cache.residuals).sum(1),
        "mean_of_branches_mae_mev_per_atom": (plain * cache.residuals).sum(1),
        "own_branch_mae_mev_per_atom": cache.residuals[torch.arange(len(cache.branch)), cache.branch],
    }
    found: dict[str, Any] = {}
    for index, name in enumerate(branches):
        rows = cache.branch == index
        if rows.any():
            errors = {way: _MEV * float((value - cache.labels)[rows].abs().mean()) for way, value in ways.items()}
            found[name] = errors | {"weights": dict(zip(branches, weights[rows].mean(0).tolist(), strict=True))}
    return found
