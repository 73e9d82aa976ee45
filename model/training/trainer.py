"""`python -m model train`: steps, validations, checkpoints, an orderly end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint
from model.config import TrainConfig
from model.faults import Diverged
from model.graph import AtomGraph
from model.outcome import CampaignError, Outcome, Status
from model.owner import StopFlag
from model.parallel import Ranks
from model.progress import Progress
from model.timers import Timers
from model.training import records, state
from model.training.assembly import Assembly, Start, assemble
from model.training.loss import Deviations, count_labels
from model.training.records import StepsLog
from model.training.schedule import learning_rate
from model.training.state import Standing
from model.training.validation import Validation

LAST, BEST = Path("checkpoints/last"), Path("checkpoints/best")
_NAMED = 20
"""Structures named when training diverges."""


def run(config: TrainConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Train, or go on with a training, to its end or to an orderly stop."""
    return train(config, folder, ranks, Start(config.init), progress_of(config, folder, ranks))


def progress_of(config: TrainConfig, folder: Path, ranks: Ranks) -> Progress:
    """Return the task's progress; one for the whole task, so that its count never falls."""
    return Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)


def train(config: TrainConfig, folder: Path, ranks: Ranks, start: Start, progress: Progress) -> Outcome:
    """Train from a given start; also the body of fine-tuning."""
    if config.resume is not None and config.init is not None:
        raise CampaignError("both `resume` and `init` are given", "resume", "Keep one: go on exactly, or start from weights.")
    timers = Timers()
    progress.begin("load", config.epochs, "epochs")
    with timers("assemble"):
        assembly = assemble(config, ranks, start)
    trainer = Trainer(assembly, folder, timers, progress)
    trainer.restore()
    outcome = trainer.outcome(trainer.fit())
    assembly.mesh.close()
    return outcome


@dataclass(frozen=True)
class _Agreement:
    """What all ranks know before a step: labels of the global batch, (2, num_branches), and whether to stop or save first."""

    counts: Tensor
    stop: bool
    save: bool


class Trainer:
    """One training on this rank.

    Args:
        assembly: The parts.
        folder: Task folder.
        timers: Where the time goes.
        progress: What is published meanwhile.
    """

    def __init__(self, assembly: Assembly, folder: Path, timers: Timers, progress: Progress) -> None:
        config, ranks = assembly.config, assembly.ranks
        self._parts, self._folder, self._timers = assembly, folder, timers
        self._config, self._ranks = config, ranks
        self._num_branches = len(assembly.data.names)
        self._notes = list(assembly.notes)
        self._steps_per_epoch = assembly.batches.sampler.steps_per_epoch
        self._validation = Validation(assembly)
        self._stop = StopFlag(config.stop, looks=ranks.is_first)
        self._progress = progress
        self._steps_log = StepsLog(folder, writes=ranks.is_first)
        self._began = self._saved_at = time.monotonic()
        self._structures = 0
        self.standing = Standing()
        self.standing.clear_sums(self._num_branches)

    def restore(self) -> None:
        """Take up the training of `config.resume`, if there is one, with its best checkpoint and its metrics."""
        folder = self._config.resume
        if folder is None:
            return
        with self._timers("restore"):
            self.standing, differences = state.restore(self._parts, folder)
            if differences:
                self._notes.append(f"not bit-identical to an uninterrupted run: {', '.join(differences)}")
            best = folder.parent / BEST.name
            if (best / checkpoint.META_FILE).exists() and best.resolve() != (self._folder / BEST).resolve():
                checkpoint.duplicate(best, self._folder / BEST, self._ranks, self._config.owner)
            self._write_metrics()

    def fit(self) -> Status:
        """Train to the last epoch, or to a stop; a checkpoint stands either way."""
        while self.standing.epoch < self._config.epochs:
            if not self._epoch() or not self._end_epoch():
                self._save()
                return Status.PARTIAL
        return Status.DONE

    def outcome(self, status: Status) -> Outcome:
        """Describe what came out."""
        best = (self._folder / BEST / checkpoint.META_FILE).exists()
        return Outcome(
            status=status,
            message="; ".join(self._notes),
            result=self._result(),
            outputs={"last": str(LAST)} | ({"best": str(BEST)} if best else {}),
            timings_s=self._timers.rounded(),
        )

    def _epoch(self) -> bool:
        """Make the steps that are left of this epoch; False where a stop was asked for."""
        self._publish("train", at_once=True)
        while self.standing.step < self._steps_per_epoch:
            with self._timers("data"):
                graph = self._parts.batches.graph(self.standing.epoch, self.standing.step)
            agreement = self._agree(graph)
            if agreement.stop:
                return False
            if agreement.save:
                self._save()
            self._step(graph, agreement.counts)
            self._publish("train")
        return True

    def _agree(self, graph: AtomGraph | None) -> _Agreement:
        """Count the global batch's labels; the same reduction carries every rank's wish to stop and rank 0's clock."""
        with self._timers("reduce"):
            votes = torch.zeros(2 * self._num_branches + 2, dtype=torch.float64)
            if graph is not None:
                counts = votes[:-2].view(2, self._num_branches)
                counts[:, list(self._parts.own)] = count_labels(graph, len(self._parts.own)).cpu()
            votes[-2] = float(self._stop.asked())
            votes[-1] = float(self._ranks.is_first and time.monotonic() - self._saved_at >= self._config.checkpoint_every_s)
            votes = self._parts.mesh.sum_(votes.to(self._parts.device)).cpu()
        return _Agreement(votes[:-2].view(2, -1), bool(votes[-2] > 0), bool(votes[-1] > 0))

    def _step(self, graph: AtomGraph | None, counts: Tensor) -> None:
        parts, standing = self._parts, self.standing
        parts.buckets.zero()
        sums, bad = self._gradients(graph, counts)
        with self._timers("reduce"):
            totals, norm = parts.buckets.reduce(sums)
        if not (math.isfinite(norm) and bool(torch.isfinite(totals).all())):
            self._diverge(bad)
        with self._timers("update"):
            parts.optimizer.step(standing.updates, self._learning_rate(), norm)
        parts.memory.check()
        self._steps_log.append(standing.updates)
        self._count(totals, counts)

    def _gradients(self, graph: AtomGraph | None, counts: Tensor) -> tuple[Tensor, Tensor | None]:
        """Leave this rank's gradients in the buckets; return its sums, and which of its structures are not finite."""
        sums = torch.zeros(1 + 2 * self._num_branches, dtype=self._parts.buckets.world.weights.dtype, device=self._parts.device)
        if graph is None:
            return sums, None
        own = list(self._parts.own)
        with self._timers("forward"):
            deviations = Deviations(self._parts.model.predict(graph, training=True, forces=bool(counts[1].any())), graph)
            loss = self._parts.loss(deviations, counts[:, own].to(self._parts.device))
        with self._timers("backward"):
            torch.autograd.backward(loss)
        structures, forces = deviations.of_structures(torch.abs).detach(), deviations.forces.detach().abs()
        errors = deviations.sums(structures, forces, len(own))
        sums[0] = loss.detach()
        sums[1:].view(2, -1)[:, own] = errors.to(sums.dtype)
        return sums, deviations.not_finite()

    def _diverge(self, bad: Tensor | None) -> None:
        """Name the structures at fault, or the whole batch where only the gradient overflowed; all ranks raise."""
        standing = self.standing
        ids = self._parts.batches.ids(standing.epoch, standing.step)
        ours = [name for name, at_fault in zip(ids, bad.tolist() if bad is not None else [], strict=False) if at_fault]
        gathered = self._ranks.allgather((ours, ids))
        faulty = [name for part, _ in gathered for name in part]
        named = faulty or [name for _, part in gathered for name in part]
        what = "loss" if faulty else "gradient"
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        place = f"epoch {standing.epoch}, step {standing.step} ({standing.updates} in all)"
        raise Diverged(f"{what} not finite at {place}; structures: {', '.join(named[:_NAMED])}{more}")

    def _count(self, totals: Tensor, counts: Tensor) -> None:
        standing = self.standing
        standing.sums = [a + b for a, b in zip(standing.sums, totals.tolist(), strict=True)]
        standing.counts = [a + b for a, b in zip(standing.counts, [1.0, *counts.flatten().tolist()], strict=True)]
        self._structures += self._parts.batches.size(standing.epoch, standing.step)
        standing.step += 1
        standing.updates += 1

    def _end_epoch(self) -> bool:
        """Validate and save at the end of an epoch; False where a stop was asked for meanwhile."""
        standing, last = self.standing, self.standing.epoch + 1 == self._config.epochs
        if last or (standing.epoch + 1) % self._config.validate_every == 0:
            self._publish("validate", at_once=True)
            with self._timers("validate"):
                metrics = self._validation.metrics(self._stop, lambda: self._publish("validate"))
            if metrics is None:
                return False
            improved = self._record(metrics)
        else:
            improved = False
        standing.epoch, standing.step = standing.epoch + 1, 0
        standing.clear_sums(self._num_branches)
        self._save(best=improved)
        return True

    def _record(self, metrics: dict[str, dict[str, Any]]) -> bool:
        """Note a validation; True where it is the best so far."""
        standing = self.standing
        standing.objective = self._validation.objective(metrics)
        improved = standing.objective is not None and (standing.best is None or standing.objective < standing.best)
        if improved:
            standing.best, standing.best_metrics, standing.seconds_to_best = standing.objective, metrics, self._elapsed()
        standing.history.append(
            {
                "epoch": standing.epoch + 1,
                "step": standing.updates,
                "t": round(self._elapsed(), 3),
                "learning_rate": self._learning_rate(),
                "train": records.train_metrics(self._parts.data, standing.sums, standing.counts),
                "validation": metrics,
                "objective": standing.objective,
                "structures_per_s": round(self._rate(), 2),
            }
        )
        self._write_metrics()
        return improved

    def _save(self, *, best: bool = False) -> None:
        """Write `best` first, where it is one: were we killed between the two, going on from `last` makes it again."""
        with self._timers("checkpoint"):
            self.standing.elapsed_s, self._began = self._elapsed(), time.monotonic()
            owner, meta, groups = self._config.owner, state.meta_of(self._parts, self.standing), state.groups_of(self._parts)
            if best:
                checkpoint.save(self._folder / BEST, groups, meta, self._ranks, owner)
                checkpoint.duplicate(self._folder / BEST, self._folder / LAST, self._ranks, owner)
            else:
                checkpoint.save(self._folder / LAST, groups, meta, self._ranks, owner)
            self._saved_at = time.monotonic()

    def _write_metrics(self) -> None:
        if self._ranks.is_first:
            records.write_metrics(self._folder, self.standing.history, self._config.owner)

    def _learning_rate(self) -> float:
        return learning_rate(self._config.optimizer, self.standing.updates, self._steps_per_epoch * self._config.epochs)

    def _elapsed(self) -> float:
        return self.standing.elapsed_s + time.monotonic() - self._began

    def _rate(self) -> float:
        """Return structures per second of training steps in this process, over all ranks."""
        spent = sum(self._timers.seconds.get(phase, 0.0) for phase in ("data", "forward", "backward", "reduce", "update"))
        return self._structures / spent if spent else 0.0

    def _publish(self, phase: str, *, at_once: bool = False) -> None:
        standing = self.standing
        if at_once:
            self._progress.at_once()
        total = self._steps_per_epoch * self._config.epochs
        facts = {"epoch": standing.epoch, "epochs": self._config.epochs, "objective": standing.objective, "rate": self._rate()}
        self._progress.update(phase, standing.updates, total, "steps", **facts)

    def _result(self) -> dict[str, Any]:
        standing, config = self.standing, self._config
        return {
            "objective": standing.best,
            "epochs": standing.epoch,
            "steps": standing.updates,
            "metrics": standing.best_metrics,
            "parameters": self._parts.num_parameters(),
            "backbone": config.model.backbone["name"],
            "model": config.model.model_dump(mode="json"),
            "training": config.model_dump(mode="json", exclude={"branches", "owner", "stop"}),
            "seconds_to_best": round(standing.seconds_to_best, 3),
            "seconds": round(self._elapsed(), 3),
            "structures_per_s": round(self._rate(), 2),
            "peak_memory_gb": round(self._parts.memory.peak() / 1e9, 3),
            "checkpoints": self._timers.facts("checkpoint"),
            "layout": self._parts.data.layout.describe(self._parts.data.names),
        }
