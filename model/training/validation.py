"""Errors on the validation split during training, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from model.faults import Diverged
from model.owner import StopFlag
from model.training.assembly import Assembly
from model.training.loss import Deviations
from model.training.metrics import COLUMNS, error_sums, is_finite, objective_of
from model.training.scores import Scores, metrics_by_branch

_LOOK_EVERY = 8
"""Batches between two looks at the stop flag."""


class _Stopped(Exception):  # noqa: N818 no error
    """A stop was asked for in the middle."""


class _Looks:
    """Call `look` every few graphs, and exactly `total` times in all: it is a reduction that no rank may miss."""

    def __init__(self, total: int, look: Callable[[], None], tell: Callable[[], None]) -> None:
        self._left, self._look, self._tell, self._ticks = total, look, tell, 0

    def see(self, _: Deviations) -> None:
        self._tell()
        self._ticks += 1
        if self._ticks % _LOOK_EVERY == 0 and self._left:
            self._left -= 1
            self._look()

    def finish(self) -> None:
        while self._left:
            self._left -= 1
            self._look()


class Validation:
    """Validate with the averaged weights, where averaging is on.

    Args:
        assembly: The training's parts.
    """

    def __init__(self, assembly: Assembly) -> None:
        self._parts = assembly
        data = assembly.data
        self._scales = {name: summary.scales for name, summary in zip(data.names, data.summaries, strict=True)}
        rounds = assembly.ranks.allgather(assembly.batches.num_validation_batches())
        self._looks = max(rounds) // _LOOK_EVERY

    def metrics(self, stop: StopFlag, tell: Callable[[], None]) -> dict[str, dict[str, Any]] | None:
        """Return metrics by branch, equal on all ranks; None where a stop was asked for meanwhile.

        Args:
            stop: Whether this rank is asked to stop.
            tell: Called after every batch.

        Raises:
            Diverged: A metric is not finite.
        """
        looks = _Looks(self._looks, lambda: self._look(stop), tell)
        names, own, targets = self._parts.data.names, self._parts.own, self._parts.statistics.targets
        scores = Scores(self._parts.model.branches, targets)

        def see(deviations: Deviations) -> None:
            scores.see(deviations)
            looks.see(deviations)

        sums = torch.zeros(len(names), COLUMNS, dtype=torch.float64)
        averaged = self._parts.config.optimizer.ema is not None
        shards = self._parts.shards
        with self._parts.optimizer.averaged() if averaged else nullcontext(), shards.together() if shards else nullcontext():
            try:
                sums += error_sums(self._parts.model, self._parts.batches.validation(), own, len(names), see)
                looks.finish()
            except _Stopped:
                return None
        sums = self._parts.mesh.sum_(sums.to(self._parts.device)).cpu()
        metrics = metrics_by_branch(names, sums, scores.metrics(targets, self._parts.ranks))
        if not is_finite(metrics):
            raise Diverged(f"validation errors not finite: {sorted(b for b in names if not is_finite({b: metrics[b]}))}")
        return metrics

    def objective(self, metrics: dict[str, dict[str, Any]]) -> float | None:
        """Return the objective of some metrics."""
        return objective_of(metrics, self._scales)

    def _look(self, stop: StopFlag) -> None:
        """Let all ranks see whether one wants to stop; every rank looks equally often, whatever its share of the split."""
        flag = torch.tensor([float(stop.asked())], device=self._parts.device)
        if bool(self._parts.mesh.sum_(flag) > 0):
            raise _Stopped
