"""One optimizer step: count the global batch's labels, gradients in pieces that fit, one reduction, one update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from model.faults import Diverged
from model.graph import AtomGraph
from model.parallel import Ranks
from model.timers import Timers
from model.training.accumulation import Accumulation, pair_without_labels
from model.training.assembly import Assembly
from model.training.loss import Deviations, count_labels
from model.training.state import Standing

_NAMED = 20
"""Structures named when training diverges."""


@dataclass(frozen=True)
class Agreement:
    """What all ranks know before a step.

    Attributes:
        counts: Labels of the global batch, (2, num_branches).
        wishes: How many ranks said yes, question by question.
    """

    counts: Tensor
    wishes: tuple[bool, ...]


class Stepper:
    """Make the steps of a training on this rank.

    Args:
        assembly: The training's parts.
        timers: Where the time goes.
    """

    def __init__(self, assembly: Assembly, timers: Timers) -> None:
        self._parts, self._timers = assembly, timers
        self._ranks: Ranks = assembly.ranks
        self._num_branches = len(assembly.data.names)
        self._accumulation = Accumulation(assembly.config, len(assembly.own), assembly.ranks.size)
        self._steps, self._bytes_reduced, self._reduced_before = 0, 0, 0

    def agree(self, graph: AtomGraph | None, wishes: Sequence[bool]) -> Agreement:
        """Count the labels of the global batch; the same reduction carries what each rank wishes."""
        self._reduced_before = self._parts.mesh.bytes_reduced
        with self._timers("reduce"):
            votes = torch.zeros(2 * self._num_branches + len(wishes), dtype=torch.float64)
            counts, asked = votes[: -len(wishes)].view(2, -1), votes[-len(wishes) :]
            if graph is not None:
                counts[:, list(self._parts.own)] = count_labels(graph, len(self._parts.own)).cpu()
            asked += torch.tensor(wishes, dtype=torch.float64)
            votes = self._parts.mesh.sum_(votes.to(self._parts.device)).cpu()
        return Agreement(votes[: -len(wishes)].view(2, -1), tuple((votes[-len(wishes) :] > 0).tolist()))

    def step(self, graph: AtomGraph | None, counts: Tensor, standing: Standing, learning_rate: float) -> Tensor:
        """Update the weights by one global batch.

        Args:
            graph: This rank's part of it.
            counts: Its labels, (2, num_branches).
            standing: Where the training stands.
            learning_rate: Of this step.

        Returns:
            Loss, then Σ|ΔE/N| and Σ|ΔF| of each branch, over all ranks.

        Raises:
            Diverged: Loss or gradient is not finite; names the structures.
        """
        parts = self._parts
        parts.buckets.zero()
        sums, bad = self._gradients(graph, counts)
        with self._timers("reduce"):
            totals, norm = parts.buckets.reduce(sums)
        if not (math.isfinite(norm) and bool(torch.isfinite(totals).all())):
            self._diverge(bad, standing)
        with self._timers("update"):
            parts.optimizer.step(standing.updates, learning_rate, norm)
        parts.memory.check()
        self._steps, self._bytes_reduced = self._steps + 1, self._bytes_reduced + parts.mesh.bytes_reduced - self._reduced_before
        return totals

    def bytes_reduced(self) -> float:
        """Return the bytes that this rank has put into reductions, a step, counts and votes included."""
        return self._bytes_reduced / max(1, self._steps)

    def _gradients(self, graph: AtomGraph | None, counts: Tensor) -> tuple[Tensor, Tensor | None]:
        """Leave this rank's gradients in the buckets; return its sums, and which of its structures are not finite."""
        sums = torch.zeros(1 + 2 * self._num_branches, dtype=self._parts.buckets.world.weights.dtype, device=self._parts.device)
        shards = self._parts.shards
        if graph is None and shards is None:
            return sums, None
        # Each piece's loss counts from the labels of the whole batch: the pieces' gradients add up to the batch's.
        pieces = [self._idle()] if graph is None else self._accumulation.pieces(graph)
        bad = [self._accumulate(piece, counts, sums, is_last=piece is pieces[-1]) for piece in pieces]
        return sums, None if graph is None else torch.cat(bad)

    def _idle(self) -> AtomGraph:
        """Return a molecule without labels: what a rank without structures computes where all must meet in the backbone."""
        return pair_without_labels(self._parts.buckets.world.weights, 0.5 * self._parts.config.model.cutoff)

    def _accumulate(self, graph: AtomGraph, counts: Tensor, sums: Tensor, *, is_last: bool) -> Tensor:
        """Add a piece's gradients to the buckets, its errors to `sums`; return which of its structures are not finite."""
        own, shards = list(self._parts.own), self._parts.shards
        with self._timers("forward"), shards.held() if shards else nullcontext():
            deviations = Deviations(self._parts.model.predict(graph, training=True, forces=bool(counts[1].any())), graph)
            loss = self._parts.loss(deviations, counts[:, own].to(self._parts.device))
        with self._timers("backward"), shards.held() if shards and not is_last else nullcontext():
            torch.autograd.backward(loss)
        structures, forces = deviations.of_structures(torch.abs).detach(), deviations.forces.detach().abs()
        errors = deviations.sums(structures, forces, len(own))
        sums[0] += loss.detach()
        sums[1:].view(2, -1)[:, own] += errors.to(sums.dtype)
        return deviations.not_finite()

    def _diverge(self, bad: Tensor | None, standing: Standing) -> NoReturn:
        """Name the structures at fault, or the whole batch where only the gradient overflowed; all ranks raise."""
        ids = self._parts.batches.ids(standing.epoch, standing.step)
        ours = [name for name, at_fault in zip(ids, bad.tolist() if bad is not None else [], strict=False) if at_fault]
        gathered = self._ranks.allgather((ours, ids))
        faulty = [name for part, _ in gathered for name in part]
        named = faulty or [name for _, part in gathered for name in part]
        what = "loss" if faulty else "gradient"
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        place = f"epoch {standing.epoch}, step {standing.step} ({standing.updates} in all)"
        raise Diverged(f"{what} not finite at {place}; structures: {', '.join(named[:_NAMED])}{more}")
