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


def data_orders(campaign: Campaign, folder: Path) -> dict[str, dict[str, Any]]:
    """Return what to write for each branch and source: reader, options, folder; the same path is written once."""
    named = {**campaign.header.sources, **campaign.header.branches}
    return {
        name: {"reader": each.reader, "options": each.options, "folder": str(folder / name), "count": STRUCTURES}
        for name, each in named.items()
    }
