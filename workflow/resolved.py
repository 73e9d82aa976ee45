"""What the first driver writes down of a campaign, and what a changed file means for it later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from model.outcome import read_json, write_json
from workflow.campaign import Campaign, Header, stage_kind
from workflow.errors import ConfigError, JournalError
from workflow.graph import belongs
from workflow.ledger import Ledger
from workflow.request import read_request
from workflow.rundir import RunDir
from workflow.site import Site
from workflow.stages.base import StageSpec

_PACKAGES = ("campaign", "parsl", "deephyper", "torch", "adios2", "mpi4py", "numpy", "pydantic")


def write_resolved(rundir: RunDir, campaign: Campaign, campaign_id: str) -> dict[str, Any]:
    """Write `campaign.json` once: identity, resolved campaign and site; return the facts of the journal's first line."""
    created = {
        "campaign_id": campaign_id,
        "name": campaign.name,
        "file": str(campaign.path),
        "sha256": hashlib.sha256(campaign.path.read_bytes()).hexdigest(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    write_json(rundir.campaign, {**created, **resolved_json(campaign)})
    return created


def stored_campaign(rundir: RunDir) -> Campaign:
    """Return the campaign as its first driver resolved it.

    Raises:
        ConfigError: No driver has been here.
        JournalError: What it wrote cannot be read any more.
    """
    fields = read_json(rundir.campaign)
    if fields is None:
        remedy = "Give the folder of a campaign, or start one with `campaign run`."
        raise ConfigError("no campaign has begun here", str(rundir.root), remedy)
    try:
        stages = {name: stage_kind(spec["kind"]).Spec.model_validate(spec) for name, spec in fields["stages"].items()}
        header, site = Header.model_validate(fields["header"]), Site.model_validate(fields["site"])
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"not a resolved campaign ({error})", str(rundir.campaign), "Restore the file from a copy.") from error
    return Campaign(Path(fields["file"]), header, site, stages, rundir.root)


def reconciled(rundir: RunDir, campaign: Campaign, ledger: Ledger) -> tuple[Campaign, list[str]]:
    """Keep the resolved keys of stages that have begun, take the file's for the others, tell and keep the differences.

    A stage that failed or was cancelled has ended: `resume` tries it with the keys that the file has now.

    Raises:
        ConfigError: The file names another site than the campaign began on.
    """
    stored, told = _stored(rundir, campaign, ledger)
    if stored["site"]["name"] != campaign.site.name:
        raise ConfigError(
            f"the campaign began on site '{stored['site']['name']}', not '{campaign.site.name}'",
            str(rundir.campaign),
            f"Run it there, or give the file another `folder:`; `--site {stored['site']['name']}` goes on.",
        )
    now = resolved_json(campaign)
    told += [
        f"the file has changed: {path}: {old!r} -> {new!r}" for path, old, new in _differences(_frame(stored), _frame(now), "")
    ]
    stages = dict(campaign.stages)
    for name in {**stored["stages"], **now["stages"]}:
        kept, lines = _stage(rundir, ledger, name, stored["stages"].get(name), now["stages"].get(name))
        told += lines
        if kept is not None:
            stages[name] = kept
    resolved = replace(campaign, stages=stages)
    if told:  # so that `status` and `cancel` know the stages that are new
        write_json(rundir.campaign, {**stored, **resolved_json(resolved)})
    return resolved, told


def _stored(rundir: RunDir, campaign: Campaign, ledger: Ledger) -> tuple[dict[str, Any], list[str]]:
    """Return what the first driver wrote down; where it is gone, write it anew out of the file and the journal."""
    stored = read_json(rundir.campaign)
    told: list[str] = []
    if stored is None:
        write_resolved(rundir, campaign, ledger.campaign_id)
        stored = read_json(rundir.campaign)
        told = [f"{rundir.campaign} was gone; it is written anew, from the file as it is now"]
    if not isinstance(stored, dict) or not {"header", "site", "stages"} <= stored.keys():
        raise JournalError("not a resolved campaign", str(rundir.campaign), "Move the file away; it is written anew.")
    return stored, told


def _frame(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields["header"], "site": fields["site"]}


def _stage(rundir: RunDir, ledger: Ledger, name: str, old: Any, new: Any) -> tuple[StageSpec | None, list[str]]:
    """Return the keys that a begun stage keeps, or None where the file's hold; and what differs."""
    entries = [entry for key, entry in ledger.stages.items() if belongs(key, name) and entry.has_begun]
    if old is None or new is None:
        what = "is new" if old is None else "is gone; what it has made stays" if entries else "is gone"
        return None, [f"the file has changed: stages.{name} {what}"] if old != new else []
    fields = next((f for entry in entries if (f := _begun_with(rundir, entry.key)) is not None), old if entries else None)
    if fields is None or all(entry.state in ("failed", "cancelled") for entry in entries):
        return None, [
            f"the file has changed: stages.{name}.{path}: {was!r} -> {now!r}; taken"
            for path, was, now in _differences(old, new, "")
        ]
    kept: StageSpec = stage_kind(fields["kind"]).Spec.model_validate(fields)
    return kept, [
        f"the file has changed: stages.{name}.{path}: {was!r} -> {now!r}; it has begun and keeps the first"
        for path, was, now in _differences(fields, new, "")
    ]


def _begun_with(rundir: RunDir, key: str) -> dict[str, Any] | None:
    attempts = [each for each in rundir.attempts(key) if each.request.exists()]
    return read_request(attempts[-1].request).spec if attempts else None


def resolved_json(campaign: Campaign) -> dict[str, Any]:
    """Return a campaign with its site and its stage instances, as JSON values."""
    return {
        "header": campaign.header.model_dump(mode="json"),
        "site": campaign.site.model_dump(mode="json"),
        "stages": {name: spec.model_dump(mode="json") for name, spec in campaign.stages.items()},
        "instances": [
            {
                "key": each.key,
                "kind": each.spec.kind,
                "needs": list(each.needs),
                "nodes": 0 if stage_kind(each.spec.kind).on_login else each.spec.nodes,
                "links": each.spec.links,
                "walltime_s": each.spec.walltime_s,
                "spec": each.spec.model_dump(mode="json"),
            }
            for each in campaign.instances()
        ],
    }


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(old.get(key), new.get(key), below)
    elif old != new:
        yield path, old, new


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
