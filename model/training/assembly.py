"""Put a training together: data, model, buckets, optimizer, on the ranks that there are."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model import checkpoint
from model.config import TrainConfig
from model.device import MemoryLimit, device_of
from model.mesh import Mesh
from model.multitask import MultiTaskModel
from model.outcome import CampaignError
from model.parallel import Ranks
from model.precision import POLICIES, apply
from model.prediction import Statistics
from model.registry import backbone_options
from model.training import branches, drawing
from model.training.batches import Batches
from model.training.branches import Data, Summary
from model.training.buckets import Buckets
from model.training.loss import Loss
from model.training.optimizer import Optimizer

if TYPE_CHECKING:
    from model.training.sharding import Shards

BACKBONE = "backbone"


@dataclass(frozen=True)
class Start:
    """Where the weights come from.

    Attributes:
        checkpoint: Folder with trained weights; None for random ones.
        frozen: Parameter groups that stay as they are.
    """

    checkpoint: Path | None = None
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assembly:
    """The parts of a training on this rank."""

    config: TrainConfig
    ranks: Ranks
    data: Data
    mesh: Mesh
    model: MultiTaskModel
    statistics: Statistics
    buckets: Buckets
    shards: Shards | None
    optimizer: Optimizer
    batches: Batches
    loss: Loss
    memory: MemoryLimit
    device: torch.device
    frozen: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def own(self) -> tuple[int, ...]:
        """Return the branches that this rank holds, in the order of its model."""
        return tuple(sorted(self.data.own))

    def num_parameters(self) -> int:
        """Return the parameters of the whole model, heads on other ranks included."""
        groups = {name: sum(p.numel() for _, p in named) for name, named in self.model.parameter_groups().items()}
        merged: dict[str, int] = {}
        for part in self.ranks.allgather(groups):
            merged |= part
        return sum(merged.values())

    def members_of(self, group: str) -> tuple[int, ...]:
        """Return the ranks that hold a parameter group."""
        return members_of(self.data, group)

    def close(self) -> None:
        """Part from the other ranks, when all do."""
        self.batches.close()
        self.mesh.close()
        self.data.close()


def assemble(config: TrainConfig, ranks: Ranks, start: Start) -> Assembly:
    """Load data, build the model, and connect the ranks.

    Raises:
        CampaignError: Data or checkpoint do not fit the configuration.
    """
    device = device_of(config, ranks)
    memory = MemoryLimit(config.memory_gb, device)
    meta = checkpoint.read_meta(start.checkpoint) if start.checkpoint else None
    data = branches.load(config, ranks, [each for each in meta.references.values() if each] if meta else [])
    resumed = checkpoint.read_meta(config.resume) if config.resume else None
    if resumed:  # it keeps the references and scales it began with: `init`, which may have settled them, is not given again
        data = branches.as_settled(data, resumed.references, resumed.statistics.targets, resumed.state["scales"])
    statistics = statistics_of(config, data, resumed or meta)
    model = _model(config, data, statistics)
    notes = _copy_weights(model, start.checkpoint, meta, config) if start.checkpoint and meta else ()
    sampler = drawing.sampler_of(config, data, ranks)
    batches = Batches(config, sampler, data, ranks.rank, POLICIES[config.precision].dtype, device)
    _require_validation(config, data)
    notes += _shortcomings(data, batches)
    model.to(device)
    mesh = Mesh(ranks, config.backend, [members_of(data, f"head:{name}") for name in data.names], config.address_suffix)
    shards = _shards(config, model, mesh, device, start)
    buckets = _buckets(model, data, mesh, start.frozen, shards)
    return Assembly(
        config=config,
        ranks=ranks,
        data=data,
        mesh=mesh,
        model=model,
        statistics=statistics,
        buckets=buckets,
        shards=shards,
        optimizer=Optimizer(config.optimizer, buckets),
        batches=batches,
        loss=_loss(config, data),
        memory=memory,
        device=device,
        frozen=start.frozen,
        notes=notes,
    )


def members_of(data: Data, group: str) -> tuple[int, ...]:
    """Return the ranks that hold a parameter group: those of its branch, or all."""
    branch = group.removeprefix("head:")
    if branch in data.names:
        return data.layout.holders[data.names.index(branch)]
    return tuple(range(data.layout.size))


def statistics_of(config: TrainConfig, data: Data, meta: checkpoint.Meta | None) -> Statistics:
    """Return the model's scales: from the training split; what a checkpoint has fixed stays as it is there."""
    scales = [_energy_scale(summary) for summary in data.summaries]
    if config.model.heads == "shared":
        scales = [sum(scales) / len(scales)] * len(scales)
    if meta is None:
        forces = [s.scales.rms_force for s in data.summaries if s.scales.rms_force]
        force_scale = sum(forces) / len(forces) if forces else 1.0
        count, means = _neighbors(data.summaries)
        return Statistics(count, tuple(scales), force_scale, means, data.targets)
    known = dict(zip(meta.branches, meta.statistics.energy_scale, strict=True))
    if config.model.heads == "shared":
        known = dict.fromkeys(data.names, meta.statistics.energy_scale[0])
    chosen = tuple(known.get(name, scale) for name, scale in zip(data.names, scales, strict=True))
    return replace(meta.statistics, energy_scale=chosen, targets=data.targets)


def _neighbors(summaries: Sequence[Summary]) -> tuple[float, dict[str, float]]:
    """Return the mean number of neighbours, and the means that the backbone wants, over the atoms of all branches."""
    atoms = max(sum(s.num_atoms for s in summaries), 1)
    means = {name: math.fsum(s.neighbor_sums[name] for s in summaries) / atoms for name in summaries[0].neighbor_sums}
    return sum(s.num_edges for s in summaries) / atoms, means


def _energy_scale(summary: Summary) -> float:
    """Return eV/atom for a head's unit: forces are most of the labels, so their RMS × 1 Å; without forces, the spread."""
    return summary.scales.rms_force or summary.scales.sigma_energy or 1.0


def _model(config: TrainConfig, data: Data, statistics: Statistics) -> MultiTaskModel:
    own = sorted(data.own)
    scales = tuple(statistics.energy_scale[b] for b in own)
    model = MultiTaskModel(
        config.model, tuple(data.names[b] for b in own), replace(statistics, energy_scale=scales), seed=config.seed
    )
    apply(model, config.precision)
    return model


def _loss(config: TrainConfig, data: Data) -> Loss:
    own = sorted(data.own)
    weights = [config.branches[data.names[b]].weight for b in own]
    return Loss(config.loss, weights, [data.summaries[b].target is not None for b in own])


def _copy_weights(model: MultiTaskModel, folder: Path, meta: checkpoint.Meta, config: TrainConfig) -> tuple[str, ...]:
    """Start from a checkpoint's weights; branches that it lacks keep fresh heads. Says what did not match."""
    _require_fitting(meta, config, folder)
    _require_same_kinds(meta, model, folder)
    groups = model.parameter_groups()
    present = [group for group in groups if group in meta.files]
    stored = checkpoint.load_groups(folder, meta, [BACKBONE, *(g for g in present if g != BACKBONE)])
    weights = {group: state.parameters(averaged=True) for group, state in stored.items()}
    for group in groups:  # a fresh head is named in the notes, never left out in silence
        weights.setdefault(group, {name: value.detach().clone() for name, value in groups[group]})
    checkpoint.load_parameters(model, weights, str(folder))
    fresh = [name for name in config.branches if name not in meta.branches]
    dropped = [name for name in meta.branches if name not in config.branches]
    notes = [f"fresh heads for {', '.join(fresh)}"] if fresh and config.model.heads == "branch" else []
    return (*notes, *([f"heads of {', '.join(dropped)} left behind"] if dropped else []))


def _shortcomings(data: Data, batches: Batches) -> tuple[str, ...]:
    """Say what the data leave open."""
    notes = drawing.shortcomings(batches.sampler, data.names)
    unvalidated = [name for name, summary in zip(data.names, data.summaries, strict=True) if not summary.num_validation]
    if len(unvalidated) == len(data.names):
        notes.append("no structure to validate on: no epoch is the best, the last one counts")
    elif unvalidated:
        notes.append(f"no structure of {', '.join(unvalidated)} to validate on")
    for name, fitted in ((name, summary.references) for name, summary in zip(data.names, data.summaries, strict=True)):
        if fitted is not None and not fitted.is_determined:
            what = f"{fitted.rank} of {len(fitted.energies)} reference energies"
            notes.append(f"the training split of {name} determines {what}: other compositions may be eV off")
    return tuple(notes)


def _require_validation(config: TrainConfig, data: Data) -> None:
    """Refuse what waits for validations where nothing validates: it would wait for ever, and say nothing."""
    keys = {"`early_stop`": config.early_stop is not None, "`schedule: plateau`": config.optimizer.schedule == "plateau"}
    waiting = [key for key, waits in keys.items() if waits]
    if waiting and not any(summary.num_validation for summary in data.summaries):
        what = f"no structure of {', '.join(data.names)} to validate on, and {' and '.join(waiting)} would wait for it for ever"
        remedy = f"Give `splits.validation` a larger share, or more data; or take {' and '.join(waiting)} away."
        raise CampaignError(what, "splits.validation", remedy)


def _require_fitting(meta: checkpoint.Meta, config: TrainConfig, folder: Path) -> None:
    stored, wanted = (
        {**spec.model_dump(mode="json"), "backbone": backbone_options(spec.backbone).model_dump(mode="json")}
        for spec in (meta.spec, config.model)
    )
    for key in stored:
        if stored[key] != wanted[key]:
            what = f"the checkpoint has {key} {stored[key]}, the configuration {wanted[key]}"
            raise CampaignError(what, f"model.{key}", f"Use the model of {folder}.")
    if meta.splits != config.splits:
        what = f"splits {config.splits} are not those of {folder} ({meta.splits})"
        raise CampaignError(what, "splits", "Use the same: under others, what it has trained on counts as unseen.")


def _require_same_kinds(meta: checkpoint.Meta, model: MultiTaskModel, folder: Path) -> None:
    """Refuse a branch that goes by the name of one which predicted something else: its head means nothing here."""
    for name in set(meta.branches) & set(model.branches):
        there, here = (found[name].kind if name in found else "energy" for found in (meta.statistics.targets, model.targets))
        if there != here:
            what = f"{name} predicts a {here} here and a {there} in the checkpoint".replace("a energy", "an energy")
            raise CampaignError(what, str(folder), "Give the task another name.")


def _shards(config: TrainConfig, model: MultiTaskModel, mesh: Mesh, device: torch.device, start: Start) -> Shards | None:
    """Divide the backbone where that is asked for; one rank's part is the whole."""
    if config.shard and BACKBONE in start.frozen:
        remedy = "Leave `shard` out: what is not trained has neither gradient nor moments to divide."
        raise CampaignError("a frozen backbone is not divided", "shard", remedy)
    if not config.shard or len(mesh.world) == 1:
        return None
    sharding = importlib.import_module("model.training.sharding")  # not above: FSDP takes longer to import than torch does
    divided: Shards = sharding.Shards(model.backbone, BACKBONE, mesh, device)
    return divided


def _buckets(model: MultiTaskModel, data: Data, mesh: Mesh, frozen: tuple[str, ...], shards: Shards | None) -> Buckets:
    groups = model.parameter_groups()
    if shards is not None:
        del groups[BACKBONE]
    for name in frozen:
        for _, parameter in groups.pop(name):
            parameter.requires_grad_(False)
    like = next(model.heads.parameters()).detach()
    return Buckets(groups, lambda group: members_of(data, group), mesh, like, tail=1 + 2 * len(data.names), sharded=shards)
