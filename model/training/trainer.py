"""`python -m model train`: steps, validations, checkpoints, an orderly end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from model import checkpoint
from model.config import TrainConfig
from model.outcome import CampaignError, Outcome, Status
from model.owner import StopFlag
from model.parallel import Ranks
from model.progress import Progress
from model.timers import Timers
from model.training import records, state
from model.training.assembly import Assembly, Start, assemble
from model.training.records import StepsLog
from model.training.saving import Saver
from model.training.schedule import decayed, learning_rate
from model.training.state import Standing
from model.training.stepping import Stepper
from model.training.validation import Validation

LAST, BEST = Path("checkpoints/last"), Path("checkpoints/best")


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
    assembly.close()
    return outcome


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
        self._sampler = assembly.batches.sampler
        self._stepper, self._saver = Stepper(assembly, timers), Saver(ranks, config.owner)
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
                if self._ranks.is_first:
                    checkpoint.duplicate(best, self._folder / BEST, self._config.owner)
                self._ranks.barrier()
            self._write_metrics()

    def fit(self) -> Status:
        """Train to the last epoch, or to a stop; a checkpoint stands either way."""
        status = Status.DONE
        while self.standing.epoch < self._config.epochs and not self._has_settled():
            if not self._epoch() or not self._end_epoch():
                self._save()
                status = Status.PARTIAL
                break
        with self._timers("checkpoint"):
            self._saver.close()
        return status

    def _has_settled(self) -> bool:
        """Say, by counts of validations alone, whether training would not get better any more."""
        most, stale = self._config.early_stop, self.standing.patience.stale
        return most is not None and stale >= most

    def outcome(self, status: Status) -> Outcome:
        """Describe what came out."""
        best = (self._folder / BEST / checkpoint.META_FILE).exists()
        if self._has_settled():
            stale, epoch = self.standing.patience.stale, self.standing.epoch
            self._notes.append(f"stopped after epoch {epoch}: {stale} validations in a row were no better than the best")
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
        while self._sampler.has(self.standing.epoch, self.standing.step):
            with self._timers("data"):
                graph = self._parts.batches.graph(self.standing.epoch, self.standing.step)
            agreement = self._stepper.agree(graph, (self._stop.asked(), self._is_save_due(), self._saver.is_pending()))
            stop, save, writing = agreement.wishes
            if stop:
                return False
            with self._timers("checkpoint"):
                if not writing:
                    self._saver.settle()
            if save:
                self._save()
            totals = self._stepper.step(graph, agreement.counts, self.standing, self._learning_rate())
            self._steps_log.append(self.standing.updates)
            self._count(totals, agreement.counts)
            self._publish("train")
        return True

    def _is_save_due(self) -> bool:
        """Say by rank 0's clock whether a checkpoint is due: when one is written changes no number of the training."""
        return self._ranks.is_first and time.monotonic() - self._saved_at >= self._config.checkpoint_every_s

    def _count(self, totals: Tensor, counts: Tensor) -> None:
        standing = self.standing
        standing.sums = [a + b for a, b in zip(standing.sums, totals.tolist(), strict=True)]
        standing.counts = [a + b for a, b in zip(standing.counts, [1.0, *counts.flatten().tolist()], strict=True)]
        drawn = self._sampler.start(standing.epoch, standing.step + 1)
        self._structures += drawn - standing.draws
        standing.step, standing.draws, standing.updates = standing.step + 1, drawn, standing.updates + 1

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
        standing.epoch, standing.step, standing.draws = standing.epoch + 1, 0, 0
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
        if standing.objective is not None:
            standing.patience.see(self._config.optimizer, improved=improved)
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
        """Begin a checkpoint: `best` first, where it is one: killed between the two, going on from `last` makes it again."""
        with self._timers("checkpoint"):
            self.standing.elapsed_s, self._began = self._elapsed(), time.monotonic()
            folders = [self._folder / each for each in ((BEST, LAST) if best else (LAST,))]
            self._saver.begin(folders, state.groups_of(self._parts), state.meta_of(self._parts, self.standing))
            self._saved_at = time.monotonic()

    def _write_metrics(self) -> None:
        if self._ranks.is_first:
            records.write_metrics(self._folder, self.standing.history, self._config.owner)

    def _learning_rate(self) -> float:
        standing, spec = self.standing, self._config.optimizer
        now, end = self._sampler.clock(self._config.epochs, standing.epoch, standing.step)
        if standing.updates <= spec.warmup_steps:
            standing.warm = now
        return learning_rate(spec, standing.updates, decayed(now, standing.warm, end), standing.patience.cuts)

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
        total = self._sampler.total_steps(self._config.epochs, standing.epoch, standing.step)
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
            "by_rank": self._by_rank(),
            "checkpoints": self._timers.facts("checkpoint") | {"written_s": round(self._saver.seconds, 3)},
            "layout": self._parts.data.layout.describe(self._parts.data.names),
        }

    def _by_rank(self) -> dict[str, Any]:
        """Return what the ranks held and sent, least and most over the ranks, beside what plain data parallelism would."""
        parts = self._parts
        mine = {
            "state_bytes": parts.optimizer.num_bytes(),
            "peak_memory_bytes": parts.memory.peak(),
            "bytes_reduced_per_step": self._stepper.bytes_reduced(),
        }
        every = self._ranks.allgather(mine)
        plain = parts.num_parameters() * parts.buckets.world.weights.element_size() if self._ranks.size > 1 else 0
        bounds = {key: [min(each[key] for each in every), max(each[key] for each in every)] for key in mine}
        return bounds | {"plain_ddp_bytes_reduced_per_step": plain}
