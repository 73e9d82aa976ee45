"""Make a campaign small: the same branches, stages and kinds, with few structures, epochs and trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workflow.campaign import BranchSource, Campaign, stage_kind
from workflow.site import merge
from workflow.stages.base import StageSpec

STRUCTURES = 20
SPLITS = {"validation": 0.25, "test": 0.25}
"""Shares that leave something in each split of a few structures."""
NODES = 2
"""Nodes of every job."""
_WALLTIME = "00:10:00"
_OF_JOBS = ("nodes", "spares", "shard", "batch")
"""Keys whose smaller value leaves nothing out."""


def small_fields(campaign: Campaign, data: dict[str, str]) -> dict[str, Any]:
    """Return the fields of a campaign file that is this one in miniature.

    Args:
        campaign: Resolved for this machine.
        data: Folder with the files of each branch and source.
    """
    header = campaign.header
    return {
        "name": f"{header.name[:50]}-rehearsal",
        "site": "rehearsal",
        "folder": "run",
        "splits": {**header.splits.model_dump(), **SPLITS},
        "branches": {name: _source(each, data[name]) for name, each in header.branches.items()},
        "sources": {name: _source(each, data[name]) for name, each in header.sources.items()},
        "stages": _stages(campaign),
    }


def _source(source: BranchSource, folder: str) -> dict[str, Any]:
    kept = source.model_dump(mode="json", exclude={"path", "limit"}, exclude_defaults=True)
    return {**kept, "path": folder}


def _stages(campaign: Campaign) -> dict[str, Any]:
    """Return all stages by name, variants under the stage that they are of."""
    stages: dict[str, Any] = {}
    for name, spec in campaign.stages.items():
        stage, _, variant = name.partition("/")
        fields = _small(spec)
        if variant:
            kind = fields.pop("kind")
            stages.setdefault(stage, {"kind": kind, "variants": {}})["variants"][variant] = fields
        else:
            stages[stage] = fields
    return stages


def _small(spec: StageSpec) -> dict[str, Any]:
    """Return a stage's keys with those in place that make it small."""
    kind = stage_kind(spec.kind)
    given = spec.model_dump(mode="json", exclude={"on", "variants", "devices", "queue"}, exclude_unset=True)
    if kind.on_login:
        return {**{key: value for key, value in given.items() if key != "nodes"}, **kind.miniature(spec)}
    job = {"nodes": NODES, "spares": 0, "walltime": _WALLTIME, "links": min(spec.links, 2)}
    small = merge({**given, **job}, kind.miniature(spec))
    if (small.get("training") or {}).get("width"):
        small = merge(small, {"training": {"width": None}})  # there are as many ranks here as nodes
    return small


def left_out(campaign: Campaign) -> dict[str, list[str]]:
    """Return by stage what its miniature does not do at all, or less often: members of lists, and counts."""
    told = {name: _left_out(spec, _small(spec)) for name, spec in campaign.stages.items()}
    return {name: each for name, each in told.items() if each}


def _left_out(spec: StageSpec, small: dict[str, Any]) -> list[str]:
    found = []
    for key in (each for each in small if each in type(spec).model_fields and each not in _OF_JOBS):
        whole, kept = getattr(spec, key), small[key]
        if isinstance(whole, tuple) and isinstance(kept, list):
            missing = [each for each in whole if each not in kept]
            names = f"all {len(missing)}" if any(isinstance(each, dict) for each in missing) else ", ".join(map(str, missing))
            found += [f"{key} {names}"] if missing else []
        elif isinstance(whole, int) and isinstance(kept, int) and kept < whole:
            found.append(f"{key} {kept} of {whole:,}")
    return found


def data_orders(campaign: Campaign, folder: Path) -> dict[str, dict[str, Any]]:
    """Return what to write for each branch and source: reader, options, folder; the same path is written once."""
    named = {**campaign.header.sources, **campaign.header.branches}
    return {
        name: {"reader": each.reader, "options": each.options, "folder": str(folder / name), "count": STRUCTURES}
        for name, each in named.items()
    }
