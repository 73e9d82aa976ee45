"""What the first driver wrote down of a campaign: its stages, site and budget; read with patience."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.outcome import read_json
from workflow.errors import CampaignError, plain
from workflow.rundir import RunDir


@dataclass(frozen=True)
class Planned:
    """What a campaign is made of.

    Attributes:
        name: Its name.
        site: Name of its site.
        campaign_id: Its identity.
        file: The YAML file it came from.
        budget: Upper limit in node-hours.
        stages: Stage instances by key: kind, needs, nodes, links, walltime_s, node_hours, spec.
        header: The file without its stages: branches, sources, splits.
        digest: SHA-256 of the file.
        devices: Devices of a node of the site.
    """

    name: str = ""
    site: str = ""
    campaign_id: str = ""
    file: str = ""
    budget: float | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    devices: int = 0


def read_planned(rundir: RunDir, remarks: list[str]) -> Planned:
    """Read `campaign.json`; what is missing there stays empty and is remarked, as is what makes no sense."""
    fields = read_json_or_remark(rundir.campaign, remarks)
    if fields is None:
        remarks.append(f"{rundir.campaign}: not there; only what the journal tells is shown")
        return Planned()
    try:
        return _planned(fields)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        remarks.append(f"{rundir.campaign}: not a resolved campaign ({plain(repr(error))}); only what the journal tells is shown")
        return Planned()


def _planned(fields: dict[str, Any]) -> Planned:
    header = dict(fields.get("header") or {})
    given = fields.get("site")
    site: dict[str, Any] = given if isinstance(given, dict) else {"name": given or ""}
    budget = fields.get("budget") or header.get("budget")
    limit = budget.get("node_hours") if isinstance(budget, dict) else budget
    return Planned(
        name=str(fields.get("name") or header.get("name") or ""),
        site=str(site.get("name", "")),
        campaign_id=str(fields.get("campaign_id") or ""),
        file=str(fields.get("file") or fields.get("path") or ""),
        budget=None if limit is None else float(limit),
        stages=_instances(fields),
        header=header,
        digest=str(fields.get("sha256") or ""),
        devices=int((site.get("node") or {}).get("devices") or 0),
    )


def read_json_or_remark(path: Path, remarks: list[str]) -> Any | None:
    """Return a JSON mapping, or None where there is none; a damaged file is remarked."""
    try:
        value = read_json(path)
    except (CampaignError, OSError) as error:
        remarks.append(str(error).splitlines()[0])
        return None
    if value is not None and not isinstance(value, dict):
        remarks.append(f"{path}: not a mapping")
        return None
    return value


def _instances(fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in fields.get("instances") or []:
        spec = dict(each.get("spec") or {})
        links = int(each.get("links") or spec.get("links") or 1)
        nodes = int(each.get("nodes") or spec.get("nodes") or 0)
        walltime_s = float(each.get("walltime_s") or 0.0)
        found[str(each["key"])] = {
            "kind": each.get("kind") or spec.get("kind") or "",
            "needs": tuple(str(need) for need in each.get("needs") or ()),
            "nodes": nodes,
            "links": links,
            "walltime_s": walltime_s,
            "node_hours": nodes * links * walltime_s / 3600,
            "spec": spec,
        }
    return found
