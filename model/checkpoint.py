"""Checkpoints: one format for every layout of ranks, complete, hashed, and whole at every instant.

A checkpoint is a folder with `meta.json` and one file for each parameter group. A group's file is named after
its content, so writing a new one never touches what stands; renaming `meta.json` into place is the one instant
at which the new checkpoint replaces the old. Each group is written by the lowest rank that holds it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.data.references import References
from model.data.targets import Target
from model.multitask import MultiTaskModel
from model.outcome import CampaignError, read_json, sync, write_bytes, write_json
from model.owner import require_commit
from model.precision import apply
from model.prediction import Statistics
from model.specs import ModelSpec, Owner, Precision, Splits

FORMAT = 1
META_FILE = "meta.json"
_REMEDY = "Use the configuration it was trained with."


@dataclass(frozen=True)
class Meta:
    """All of a checkpoint but its tensors.

    Attributes:
        spec: Architecture.
        branches: Branches, in the order that `AtomGraph.branch` counts.
        statistics: Scales of the model, from the training split.
        precision: Arithmetic it was trained in.
        references: Per-element energies of each branch; None where it has no energies.
        splits: Seed and shares of the splits.
        config: The training's configuration, as JSON.
        epoch: Epochs completed.
        step: Optimizer steps made.
        objective: Of the last validation; None before the first.
        state: What only the training itself reads (position, sums, history, data, ranks, versions).
        files: File name, SHA-256 and bytes of each parameter group.
        format_version: Version of this format.
    """

    spec: ModelSpec
    branches: tuple[str, ...]
    statistics: Statistics
    precision: Precision
    references: dict[str, References | None]
    splits: Splits
    config: dict[str, Any]
    epoch: int = 0
    step: int = 0
    objective: float | None = None
    state: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    format_version: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, and whether energies are size-extensive; `from_json` is the inverse, bit for bit."""
        return vars(self) | {
            "is_size_extensive": self.spec.readout == "atom",
            "spec": self.spec.model_dump(mode="json"),
            "statistics": vars(self.statistics) | {"targets": {n: t.to_json() for n, t in self.statistics.targets.items()}},
            "references": {name: r.to_json() if r else None for name, r in self.references.items()},
            "splits": self.splits.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Meta:
        """Rebuild what `to_json` gave."""
        statistics = fields["statistics"]
        targets = {name: Target.from_json(target) for name, target in statistics.get("targets", {}).items()}
        statistics = statistics | {"energy_scale": tuple(statistics["energy_scale"]), "targets": targets}
        changed = {
            "spec": ModelSpec.model_validate(fields["spec"]),
            "branches": tuple(fields["branches"]),
            "statistics": Statistics(**statistics),
            "references": {name: References.from_json(r) if r else None for name, r in fields["references"].items()},
            "splits": Splits.model_validate(fields["splits"]),
        }
        return cls(**{name: value for name, value in {**fields, **changed}.items() if name != "is_size_extensive"})


@dataclass(frozen=True)
class GroupState:
    """One parameter group with what the optimizer keeps of it, flat.

    Attributes:
        names: Parameter names, sorted.
        shapes: Their shapes.
        weights: (n,).
        first: Optimizer's first moment, (n,), or None for a frozen group.
        second: Optimizer's second moment, (n,), or None.
        average: Averaged weights, (n,), or None where averaging is off.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    weights: Tensor
    first: Tensor | None = None
    second: Tensor | None = None
    average: Tensor | None = None

    def parameters(self, *, averaged: bool) -> dict[str, Tensor]:
        """Return the parameters by name; the averaged ones where asked for and kept."""
        flat = self.average if averaged and self.average is not None else self.weights
        sizes = [int(torch.Size(shape).numel()) for shape in self.shapes]
        parts = torch.split(flat, sizes)
        return {name: part.view(shape) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)}

    def copied(self) -> GroupState:
        """Return a copy on the CPU that training will not change; no tensor shares its storage with another group's."""
        kept = (self.first, self.second, self.average)
        copies = [None if each is None else each.detach().to("cpu", copy=True) for each in kept]
        return GroupState(self.names, self.shapes, self.weights.detach().to("cpu", copy=True), *copies)


def write_groups(folder: Path, groups: Mapping[str, GroupState], owner: Owner | None) -> dict[str, dict[str, Any]]:
    """Write the files of parameter groups, beside those of the checkpoint that stands; it stays valid.

    Args:
        folder: The checkpoint's folder.
        groups: The groups that this rank writes, in tensors of their own on the CPU.
        owner: Asked before each rename; a rank without an owner ends instead.

    Returns:
        Name, digest and bytes of each group's file: what `commit` needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {group: _write_group(folder, group, state, owner) for group, state in groups.items()}


def commit(folder: Path, meta: Meta, files: Mapping[str, dict[str, Any]], owner: Owner | None) -> None:
    """Make the written groups the checkpoint: rename `meta.json` into place, then remove what it no longer names.

    Args:
        folder: The checkpoint's folder.
        meta: Everything but the tensors.
        files: What `write_groups` returned, of all ranks.
        owner: Asked before the rename.
    """
    _commit(folder, meta.to_json() | {"files": dict(sorted(files.items()))}, owner)


def duplicate(source: Path, target: Path, owner: Owner | None) -> None:
    """Make `target` the same checkpoint as `source`, by links where the file system has them."""
    meta = read_meta(source).to_json()
    target.mkdir(parents=True, exist_ok=True)
    for entry in meta["files"].values():
        _link(source / entry["file"], target / entry["file"])
    _commit(target, meta, owner)


def read_meta(folder: Path) -> Meta:
    """Read a checkpoint's `meta.json`.

    Raises:
        CampaignError: There is no checkpoint, it is damaged, or it has another format.
    """
    try:
        fields = read_json(folder / META_FILE)
    except CampaignError as error:
        raise CampaignError(error.what, error.where, "Use an older checkpoint.") from error
    if fields is None:
        raise CampaignError("no checkpoint here", str(folder), "Give the folder of a checkpoint, such as `checkpoints/best`.")
    found = fields.get("format_version") if isinstance(fields, dict) else None
    if found != FORMAT:
        raise CampaignError(f"checkpoint format {found}, this version reads {FORMAT}", str(folder), "Use the matching version.")
    try:
        return Meta.from_json(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"not what a checkpoint is described by ({type(error).__name__}: {error})"
        raise CampaignError(what, str(folder / META_FILE), "Use an older checkpoint.") from error


def load_groups(folder: Path, meta: Meta, wanted: Sequence[str] | None = None) -> dict[str, GroupState]:
    """Read parameter groups, verified by digest.

    Args:
        folder: The checkpoint.
        meta: Its meta data.
        wanted: Group names; None for all.

    Raises:
        CampaignError: A group is not in the checkpoint, or a file has other bytes than when it was written.
    """
    names = list(meta.files) if wanted is None else list(wanted)
    return {name: _read_group(folder, name, meta) for name in names}


def load_model(folder: Path, *, precision: Precision | None = None, averaged: bool = True) -> tuple[MultiTaskModel, Meta]:
    """Build the model of a checkpoint with its weights: the averaged ones where it has them, which validation used.

    Args:
        folder: The checkpoint.
        precision: Arithmetic to run in; None for that of the training.
        averaged: False for the weights that the optimizer works on.

    Raises:
        CampaignError: There is no checkpoint, it is damaged, or it does not fit the model; names the first difference.
    """
    meta = read_meta(folder)
    model = MultiTaskModel(meta.spec, meta.branches, meta.statistics)
    apply(model, meta.precision)
    groups = load_groups(folder, meta)
    load_parameters(model, {group: state.parameters(averaged=averaged) for group, state in groups.items()}, str(folder))
    apply(model, precision or meta.precision)
    return model.eval(), meta


def load_parameters(model: MultiTaskModel, groups: Mapping[str, Mapping[str, Tensor]], where: str) -> None:
    """Copy parameters into a model; every parameter of the given groups must fit, name by name.

    Raises:
        CampaignError: Names the first difference.
    """
    own = model.parameter_groups()
    for group in sorted(set(own) | set(groups)):
        if group not in own or group not in groups:
            side = "the model" if group in own else "the checkpoint"
            raise CampaignError(f"parameter group '{group}' is only in {side}", where, _REMEDY)
        _copy(dict(own[group]), groups[group], where)


def _copy(parameters: Mapping[str, torch.nn.Parameter], stored: Mapping[str, Tensor], where: str) -> None:
    for name in sorted(set(parameters) | set(stored)):
        found = tuple(stored[name].shape) if name in stored else None
        wanted = tuple(parameters[name].shape) if name in parameters else None
        if found != wanted:
            what = f"parameter {name} has shape {found} in the checkpoint and {wanted} in the model"
            raise CampaignError(what, where, _REMEDY)
        with torch.no_grad():
            parameters[name].copy_(stored[name])


def _write_group(folder: Path, group: str, state: GroupState, owner: Owner | None) -> dict[str, Any]:
    fields = {name: getattr(state, name) for name in ("weights", "first", "second", "average")}
    buffer = io.BytesIO()
    torch.save(fields | {"names": list(state.names), "shapes": [list(shape) for shape in state.shapes]}, buffer)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '.', group)}-{digest[:16]}.pt"
    require_commit(owner)
    if not (folder / name).exists():
        write_bytes(folder / name, data)
    return {"file": name, "sha256": digest, "bytes": len(data)}


def _read_group(folder: Path, group: str, meta: Meta) -> GroupState:
    if group not in meta.files:
        known = ", ".join(sorted(meta.files))
        raise CampaignError(f"no parameter group '{group}' in the checkpoint", str(folder), f"It has: {known}.")
    entry = meta.files[group]
    try:
        data = (folder / entry["file"]).read_bytes()
    except FileNotFoundError:
        data = b""
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        where = str(folder / entry["file"])
        raise CampaignError("missing, or other bytes than when it was written", where, "Use an older checkpoint.")
    fields = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    names, shapes = tuple(fields.pop("names")), tuple(tuple(shape) for shape in fields.pop("shapes"))
    return GroupState(names, shapes, **fields)


def _commit(folder: Path, fields: dict[str, Any], owner: Owner | None) -> None:
    sync(folder)
    require_commit(owner)
    write_json(folder / META_FILE, fields)
    keep = {META_FILE} | {entry["file"] for entry in fields["files"].values()}
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, beside)
    beside.replace(target)
