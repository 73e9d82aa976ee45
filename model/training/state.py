"""Where a training stands, and its passage through a checkpoint."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from model import checkpoint
from model.checkpoint import GroupState, Meta
from model.config import TrainConfig
from model.kernels import build
from model.outcome import CampaignError
from model.training.assembly import Assembly
from model.training.buckets import Bucket
from model.training.optimizer import Moments
from model.training.schedule import Patience

_FREE = (
    *("owner", "stop", "node_variable", "resume", "init", "checkpoint_every_s", "progress_every_s", "memory_gb"),
    *("width", "node_memory_gb"),
    *("branches", "epochs", "checkpoint"),
)
"""Keys that may differ when a training goes on: they decide nothing about its numbers, or are compared apart."""
_LAYOUT = ("layout", "shard", "threads", "backend", "micro_batch")
"""Keys that may differ, but then sums are rounded in another order."""


@dataclass
class Standing:
    """Where a training stands; with the tensors, all that the next step depends on.

    The sampler is a function of epoch and draws: the position is its state.

    Attributes:
        epoch: Epochs completed.
        step: Steps made in this epoch.
        draws: Structures drawn in this epoch, by all ranks.
        warm: What the sampler's clock showed when the learning rate was warm.
        updates: Steps made in all.
        sums: Of this epoch so far: loss, then Σ|ΔE/N| and Σ|ΔF| of each branch.
        counts: Of this epoch so far: steps, then labelled energies and force components of each branch.
        objective: Of the last validation.
        best: Least objective so far.
        patience: What validations say of the progress.
        best_metrics: Validation metrics of the best epoch, by branch.
        seconds_to_best: Training time until then.
        elapsed_s: Training time, over all runs.
        history: The lines of `metrics.jsonl`.
    """

    epoch: int = 0
    step: int = 0
    draws: int = 0
    warm: int = 0
    updates: int = 0
    sums: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    objective: float | None = None
    best: float | None = None
    patience: Patience = field(default_factory=Patience)
    best_metrics: dict[str, Any] = field(default_factory=dict)
    seconds_to_best: float = 0.0
    elapsed_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Standing:
        """Rebuild what `asdict` gave."""
        return cls(**{**fields, "patience": Patience(**fields.get("patience", {}))})

    def clear_sums(self, num_branches: int) -> None:
        """Begin an epoch's sums."""
        self.sums = [0.0] * (1 + 2 * num_branches)
        self.counts = [0.0] * (1 + 2 * num_branches)


def meta_of(assembly: Assembly, standing: Standing) -> Meta:
    """Describe the training for a checkpoint."""
    config, data = assembly.config, assembly.data
    return Meta(
        spec=config.model,
        branches=data.names,
        statistics=assembly.statistics,
        precision=config.precision,
        references={name: s.references for name, s in zip(data.names, data.summaries, strict=True)},
        splits=config.splits,
        config=config.model_dump(mode="json"),
        epoch=standing.epoch,
        step=standing.updates,
        objective=standing.objective,
        state={
            "standing": asdict(standing),
            "data": {name: s.fingerprint for name, s in zip(data.names, data.summaries, strict=True)},
            "scales": {name: vars(s.scales) for name, s in zip(data.names, data.summaries, strict=True)},
            "where": _where(assembly),
            "generators": _generators(assembly.device),
        },
    )


def groups_of(assembly: Assembly) -> dict[str, GroupState]:
    """Return the parameter groups that this rank writes: those of which it is the lowest holder."""
    states = {}
    for group, state in _all_groups(assembly).items():
        if assembly.members_of(group)[0] == assembly.ranks.rank:
            states[group] = state
    return states


def restore(assembly: Assembly, folder: Path) -> tuple[Standing, tuple[str, ...]]:
    """Take up a training where a checkpoint left it.

    Returns:
        Where it stands, and what keeps the continuation from being bit-identical.

    Raises:
        CampaignError: The checkpoint is of another model, data or options; names the first difference.
    """
    meta = checkpoint.read_meta(folder)
    _require_same_training(assembly, meta, folder)
    trained = [group for bucket in assembly.optimizer.buckets for group in bucket.segments]
    groups = checkpoint.load_groups(folder, meta, [*trained, *assembly.frozen])
    for bucket, moments in zip(assembly.optimizer.buckets, assembly.optimizer.moments, strict=True):
        for group in bucket.segments:
            _take_up(group, bucket, moments, groups[group], folder)
        bucket.publish()
    _take_up_frozen(assembly, groups)
    _set_generators(meta.state.get("generators", {}), assembly.device)
    standing = Standing.from_json(meta.state["standing"])
    assembly.batches.sampler.go_on(standing.epoch, standing.step, standing.draws)
    return standing, _differences(assembly, meta)


def _all_groups(assembly: Assembly) -> dict[str, GroupState]:
    """Return this rank's parameter groups, as views of the arrays that training works on where it holds them whole."""
    states = {}
    for bucket, moments in zip(assembly.optimizer.buckets, assembly.optimizer.moments, strict=True):
        for group, place in bucket.segments.items():
            kept = (moments.first, moments.second, moments.average)
            tensors = [None if each is None else bucket.whole(each, group) for each in kept]
            states[group] = GroupState(place.names, place.shapes, bucket.whole(bucket.weights, group), *tensors)
    named = assembly.model.parameter_groups()
    for group in assembly.frozen:
        ordered = sorted(named[group], key=lambda item: item[0])
        flat = torch.cat([p.detach().flatten() for _, p in ordered])
        states[group] = GroupState(tuple(n for n, _ in ordered), tuple(tuple(p.shape) for _, p in ordered), flat)
    return states


def _take_up(group: str, bucket: Bucket, moments: Moments, stored: GroupState, folder: Path) -> None:
    own = bucket.segments[group]
    for name, here, there in zip(own.names, own.shapes, stored.shapes, strict=False):
        if here != there:
            raise CampaignError(f"parameter {name} has shape {there} in the checkpoint and {here} in the model", str(folder))
    if own.names != stored.names:
        differing = sorted(set(own.names) ^ set(stored.names))
        raise CampaignError(f"parameters of {group} differ: {differing[:3]}", str(folder), "Use the model it was trained with.")
    for kept in ("weights", "first", "second", "average"):
        here, there = getattr(bucket if kept == "weights" else moments, kept), getattr(stored, kept)
        if (here is None) != (there is None) or (here is not None and here.dtype != there.dtype):
            what = f"{kept} of {group} do not match the checkpoint's"
            raise CampaignError(what, str(folder), "Use the same precision and optimizer options.")
        if here is not None:
            bucket.take(here, group, there)


def _take_up_frozen(assembly: Assembly, groups: Mapping[str, GroupState]) -> None:
    named = assembly.model.parameter_groups()
    for group in assembly.frozen:
        stored = groups[group].parameters(averaged=False)
        with torch.no_grad():
            for name, parameter in named[group]:
                parameter.copy_(stored[name])


def _require_same_training(assembly: Assembly, meta: Meta, folder: Path) -> None:
    wanted = assembly.config.model_dump(mode="json")
    for key in sorted(set(wanted) - set(_FREE) - set(_LAYOUT)):
        if wanted[key] != meta.config.get(key):
            what = f"{key} is {wanted[key]}, in the checkpoint it was {meta.config.get(key)}"
            raise CampaignError(what, str(folder), "Resume with the same options, or start from its weights with `init`.")
    if set(meta.branches) == set(assembly.data.names) and meta.branches != assembly.data.names:
        # The order of samples counts branches, and JSON keeps no order of keys: it is compared by itself.
        what = f"branches are in another order than in the checkpoint ({', '.join(meta.branches)})"
        raise CampaignError(what, str(folder), "Name them in that order.")
    fingerprints = {n: s.fingerprint for n, s in zip(assembly.data.names, assembly.data.summaries, strict=True)}
    for name in sorted(set(fingerprints) | set(meta.state["data"])):
        if fingerprints.get(name) != meta.state["data"].get(name):
            raise CampaignError(f"branch {name} has other data than in the checkpoint", str(folder), "Start from it with `init`.")
    _require_same_weights(assembly.config, meta.config["branches"], folder)


def _require_same_weights(config: TrainConfig, stored: Mapping[str, Any], folder: Path) -> None:
    for name, spec in config.branches.items():
        if any(getattr(spec, key) != stored[name].get(key) for key in ("weight", "share", "draws")):
            raise CampaignError(f"weight, share or draws of {name} changed", str(folder), "Start from it with `init`.")


def _where(assembly: Assembly) -> dict[str, Any]:
    return {
        "ranks": assembly.ranks.size,
        "threads": torch.get_num_threads(),
        "layout": assembly.config.layout,
        "shard": assembly.shards is not None,
        "backend": assembly.config.backend,
        "micro_batch": assembly.config.micro_batch,
        "micro_memory_gb": assembly.config.memory_gb if assembly.config.micro_batch == "auto" else None,
        "kernels": build.modes(),
        "device": assembly.device.type,
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }


def _differences(assembly: Assembly, meta: Meta) -> tuple[str, ...]:
    there = meta.state["where"]
    for kernel in there.get("kernels", {}):
        build.load(kernel)  # before the first step nothing has asked for one
    here = _where(assembly)
    changed = [f"{key} {there.get(key)} → {here[key]}" for key in here if here[key] != there.get(key)]
    if assembly.config.epochs != meta.config["epochs"]:
        changed.append(f"epochs {meta.config['epochs']} → {assembly.config.epochs}")
    return tuple(changed)


def _generators(device: torch.device) -> dict[str, str]:
    """Return the states of torch's generators, the same on all ranks: first weights come from the seed, steps draw nothing."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return {kind: base64.b64encode(each.numpy().tobytes()).decode() for kind, each in states.items()}


def _set_generators(stored: Mapping[str, str], device: torch.device) -> None:
    for kind, text in stored.items():
        state = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == device.type:
            torch.get_device_module(device).set_rng_state(state, device)
