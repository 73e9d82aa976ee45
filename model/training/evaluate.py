"""`python -m model evaluate`: errors of a checkpoint on one split, beside what knows nothing and an untrained control."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import checkpoint
from model.checkpoint import Meta
from model.config import EvaluateConfig, Task
from model.data.block import Block
from model.data.loader import collate
from model.data.part import Part
from model.data.references import References
from model.data.store import Store
from model.device import device_of
from model.faults import Diverged
from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.precision import POLICIES, apply
from model.progress import Progress
from model.specs import BranchSpec, Division, Splits
from model.training.across import errors_across
from model.training.loss import Deviations
from model.training.metrics import LargestErrors, Scales, error_sums, is_finite, objective_of
from model.training.parity import Parity
from model.training.scores import Scores, metrics_by_branch


@dataclass(frozen=True)
class Question:
    """What to measure.

    Attributes:
        checkpoint: Folder of the model.
        branches: Stores by branch name.
        splits: Must be the checkpoint's: otherwise training data could count as unseen.
        split: `train`, `validation` or `test`.
        batch: Structures in a batch.
        untrained: Take fresh random weights instead of the trained ones.
    """

    checkpoint: Path
    branches: Mapping[str, BranchSpec]
    splits: Splits
    split: str
    batch: int
    untrained: bool = False


def run(config: EvaluateConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Measure a checkpoint."""
    start = time.monotonic()
    question = Question(config.checkpoint, config.branches, config.splits, config.split, config.batch, config.untrained)
    progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
    parity = Parity(config.split)
    result = measure(question, config, ranks, progress, parity)
    outputs = {"parity": parity.write(folder, ranks, config.owner)}
    if config.across:
        result["across"] = _across(question, config, ranks)
    seconds = round(time.monotonic() - start, 3)
    told = [_incomparable(name, result["metrics"][name], n) for name, n in result["unknown"].items()]
    message = "; ".join([*unasked(result), *told])
    return Outcome(
        Status.DONE, message=message, result=result | {"seconds": seconds}, outputs=outputs, timings_s={"evaluate": seconds}
    )


def unasked(result: Mapping[str, Any]) -> list[str]:
    """Say of which branches the split that was measured holds no structure, given what `measure` found."""
    empty = [name for name, found in result["metrics"].items() if not found["num_structures"]]
    return [f"no structure of {', '.join(empty)} in the {result['split']} split"] if empty else []


def _incomparable(name: str, metrics: Mapping[str, Any], count: int) -> str:
    return (
        f"{name}: {count} of {metrics['num_structures']} structures have elements that it never saw; no energy of theirs counts"
    )


def measure(question: Question, task: Task, ranks: Ranks, progress: Progress, parity: Parity) -> dict[str, Any]:
    """Return metrics by branch and the objective, equal on all ranks; `parity` takes its sample on the way.

    Raises:
        CampaignError: A branch is not in the checkpoint, or the splits are others than the training's.
        Diverged: An error is not finite.
    """
    meta = checkpoint.read_meta(question.checkpoint)
    _require_comparable(question, meta)
    model = _model(question, meta, task).to(device_of(task, ranks))
    own, batches, scores = range(len(meta.branches)), itertools.count(1), Scores(meta.branches, meta.statistics.targets)
    largest = LargestErrors(meta.branches)
    progress.begin(f"evaluate {question.split}", 0, "batches")

    def see(deviations: Deviations) -> None:
        parity.see(deviations)
        scores.see(deviations)
        largest.see(deviations)
        progress.update("evaluate", next(batches), 0, "batches")

    part = _Part(question, meta, task, ranks)
    sums = error_sums(model, part.graphs(parity), own, len(own), see)
    total = torch.stack(ranks.allgather(sums)).sum(0)
    worst = largest.metrics(ranks)
    unknown: Counter[str] = sum(ranks.allgather(part.unknown), Counter())
    every = metrics_by_branch(meta.branches, total, scores.metrics(meta.statistics.targets, ranks))
    metrics = {name: _with_largest(every[name], worst[name]) for name in question.branches}
    if not is_finite(metrics):
        raise Diverged(f"errors of {question.checkpoint} are not finite")
    return {
        "objective": objective_of(metrics, {name: Scales(**meta.state["scales"][name]) for name in metrics}),
        "metrics": metrics,
        "split": question.split,
        "untrained": question.untrained,
        "unknown": dict(unknown),
        "epoch": meta.epoch,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _with_largest(metrics: Mapping[str, Any], largest: Mapping[str, float]) -> dict[str, Any]:
    """Return a branch's metrics with its largest errors, None where it has no labels; a target has its own already."""
    if "kind" in metrics:
        return dict(metrics)
    counts = (metrics["num_energies"], metrics["num_force_components"])
    return {**metrics, **{key: each if n else None for n, (key, each) in zip(counts, largest.items(), strict=True)}}


def _across(question: Question, task: Task, ranks: Ranks) -> dict[str, Any]:
    meta = checkpoint.read_meta(question.checkpoint)
    model = _model(question, meta, task).to(device_of(task, ranks))

    def graphs_of(name: str) -> Iterator[AtomGraph]:
        alone = replace(question, branches={name: question.branches[name]})
        return _Part(alone, meta, task, ranks).graphs(Parity(question.split))

    return errors_across(model, meta, graphs_of, question.branches, ranks)


def _require_comparable(question: Question, meta: Meta) -> None:
    where = str(question.checkpoint)
    for name in question.branches:
        if name not in meta.branches:
            raise CampaignError(f"the model has no branch '{name}'", where, f"It has: {', '.join(meta.branches)}.")
    if question.splits != meta.splits:
        what = f"splits {question.splits} are not the training's ({meta.splits})"
        raise CampaignError(what, "splits", "Use the training's: under others, training data counts as unseen.")
    for name, spec in question.branches.items():
        target = meta.statistics.targets.get(name)
        store, here = Store.open(spec.store), None if target is None else (target.kind, target.unit)
        there = store.for_energies().target if here is None and store.has_energies else store.target
        if there != here:
            what = f"labelled by {_told(there)}, and branch '{name}' predicts {_told(here)}"
            raise CampaignError(what, str(spec.store), "Give the store of what it was trained on.")


def _told(target: tuple[str, str] | None) -> str:
    return "energies" if target is None else f"a {target[0]}" + (f" in {target[1]}" if target[1] else "")


def _model(question: Question, meta: Meta, task: Task) -> MultiTaskModel:
    if not question.untrained:
        return checkpoint.load_model(question.checkpoint, precision=task.precision)[0]
    model = MultiTaskModel(meta.spec, meta.branches, meta.statistics, seed=task.seed)
    apply(model, task.precision)
    return model.eval()


class _Part:
    """This rank's part of a split, read block by block: residuals after the references it was trained with, or targets.

    Attributes:
        unknown: By branch, structures of this rank whose energy has no residual for want of a reference.
    """

    def __init__(self, question: Question, meta: Meta, task: Task, ranks: Ranks) -> None:
        self._question, self._meta = question, meta
        self._dtype, self._device = POLICIES[task.precision].dtype, device_of(task, ranks)
        division = _division_of(meta)
        self._parts = {
            name: Part.of(Store.open(spec.store), question.splits, question.split, ranks, division)
            for name, spec in question.branches.items()
        }
        self.unknown: Counter[str] = Counter()

    def graphs(self, parity: Parity) -> Iterator[AtomGraph]:
        """Yield the batches; announce each to `parity`, and count into `unknown`."""
        question, meta = self._question, self._meta
        targets = meta.statistics.targets
        labelled_by = [targets.get(name) or meta.references[name] for name in meta.branches]
        for name, part in self._parts.items():
            for places, block in part.blocks():
                if count := _num_unknown(meta.references[name], block):
                    self.unknown[name] += count
                for start in range(0, len(block), question.batch):
                    stop = min(start + question.batch, len(block))
                    parity.expect(name, places[start:stop], part.total, targets.get(name))
                    piece = [(meta.branches.index(name), block.span(start, stop))]
                    graph = collate(piece, meta.spec.cutoff, meta.spec.max_neighbors, labelled_by, self._dtype)
                    yield graph.to(self._device)


def _division_of(meta: Meta) -> Division | None:
    """Return how a checkpoint's task was divided: it is tested by the same rules."""
    fields = meta.config.get("division")
    return None if fields is None else Division.model_validate(fields)


def _num_unknown(references: References | None, block: Block) -> int:
    if references is None:
        return 0
    return int(np.isnan(references.of(block.numbers, block.offsets)[np.isfinite(block.energy)]).sum())
