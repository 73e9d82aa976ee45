"""Export a campaign's provenance as an RO-Crate: a folder that says what was made from what, by which software, and proves it.

The crate (https://w3id.org/ro/crate/1.1, Process Run Crate 0.5) holds the campaign file, the journal, the receipts, the
report and small results. Stores and checkpoints stay where they are: the crate names each by an address within the campaign
(`arcp://uuid,<campaign>/…`), with size and SHA-256 out of the receipts, and lists them in a form that `sha256sum --check` reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from rocrate.rocrate import ROCrate

from workflow.errors import ConfigError
from workflow.report.crate_entities import Entities, link
from workflow.report.facts import Facts, StageFacts, gather
from workflow.report.html import write_report
from workflow.report.provenance import stage_origin
from workflow.rundir import RunDir
from workflow.targets import folder_in

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_COPIED = ("table", "top", "parity")
"""Roles of results that the crate holds itself."""
_MOST_COPIED = 4_000_000
_MOST_LISTED = 200
"""Files of one role that have an entity each; more are only in the list for `sha256sum --check`."""


def write_crate(folder: Path, into: Path | None) -> Path:
    """Write the crate of a campaign as it stands.

    Args:
        folder: The campaign's folder.
        into: Folder to write; None takes `ro-crate` in the campaign's. An earlier crate of the campaign there is replaced,
            files that it does not know are left.

    Returns:
        The folder.

    Raises:
        ConfigError: No campaign has begun, or something else stands there.
    """
    facts = gather(folder)
    if not facts.planned.campaign_id:
        raise ConfigError("no campaign has begun there", str(folder), "Start it with `campaign run FILE`.")
    target = into or folder / "ro-crate"
    _make_room(target, facts.planned.campaign_id)
    Crate(folder, target, facts).write()
    return target


class Crate:
    """One crate in the making.

    Args:
        folder: The campaign's folder.
        target: The crate's folder, which stands.
        facts: The campaign.
    """

    def __init__(self, folder: Path, target: Path, facts: Facts) -> None:
        self._rundir, self._target, self._facts = RunDir(folder), target, facts
        self._crate = ROCrate(version="1.1")
        self._crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"  # younger than that version's own terms
        base = f"arcp://uuid,{UUID(facts.planned.campaign_id[:32].ljust(32, '0'))}/"
        self._entities = Entities(self._crate, folder, base)
        self._made: dict[str, dict[str, Any]] = {}

    def write(self) -> None:
        """Tell the story: the whole, its files, what each stage did."""
        self._describe()
        self._add_files()
        for stage in self._facts.stages:
            if stage.outputs or stage.history.tries or stage.status.state == "done":
                self._add_action(stage)
        self._crate.write(self._target)

    def _describe(self) -> None:
        status, root = self._facts.status, self._crate.root_dataset
        done = sum(stage.state == "done" for stage in status.stages)
        self._crate.name = f"Campaign {status.name}"
        self._crate.description = (
            f"Provenance of the campaign {status.name} on {status.site or 'an unknown site'}: "
            f"{done} of {len(status.stages)} stages done, {status.node_hours:.4g} node-hours. "
            "Stores and checkpoints are named with size and SHA-256, not held."
        )
        terms = "Not stated. The data sets that went in keep their own licences, which their entities name."
        self._crate.license = self._entities.add("#licence", "CreativeWork", name="Licence of this crate", description=terms)
        root["conformsTo"] = self._entities.add(PROFILE, ["CreativeWork", "Profile"], name="Process Run Crate", version="0.5")
        root["author"] = self._entities.person()
        root["identifier"] = self._facts.planned.campaign_id

    def _add_files(self) -> None:
        report = write_report(self._rundir.root, self._target / "report.html")
        self._file(report, "report.html", "Report of the campaign, for reading", "text/html")
        self._file(self._rundir.campaign, "campaign.json", "The campaign and its site, resolved", "application/json")
        given = Path(self._facts.planned.file)
        if given.is_file() and _digest(given) == self._facts.planned.digest:
            self._crate.mainEntity = self._file(given, given.name, "The campaign file", "application/yaml")
        for path in sorted(self._rundir.journal.glob("*.jsonl")):
            about = "Journal of a driver: every event, each line with the hash of the one before"
            self._file(path, f"journal/{path.name}", about, "application/jsonl")

    def _add_action(self, stage: StageFacts) -> None:
        results = self._made[stage.key] = dict(self._results(stage))
        inputs = self._inputs(stage) + (self._entities.sources(stage) if stage.status.kind == "convert" else [])
        receipt = self._rundir.stage_receipt(stage.key)
        about = self._file(receipt, f"receipts/{_flat(stage.key)}.json", f"Receipt of {stage.key}", "application/json")
        action = self._entities.action(stage, stage_origin(self._facts, stage))
        instrument = self._entities.instrument(stage, self._facts.created.get("versions") or {})
        links = {
            "object": inputs,
            "result": list(results.values()),
            "instrument": [instrument],
            "subjectOf": [about] if about else [],
        }
        for name, values in links.items():
            link(action, name, values)
        self._crate.root_dataset.append_to("mentions", action)

    def _inputs(self, stage: StageFacts) -> list[Any]:
        """Return what a stage worked on: the results of those that it needs, and the stores of its data."""
        given = stage.spec.get("task") or stage.spec.get("candidates") or list(self._facts.planned.header.get("branches") or {})
        names = [given] if isinstance(given, str) else list(given)
        reads = stage.status.kind not in ("convert", "promote")
        stores = {role: made for results in self._made.values() for role, made in results.items() if role.startswith("store:")}
        found = [stores[f"store:{name}"] for name in names if reads and f"store:{name}" in stores]
        needed = [self._made.get(need, {}) for need in stage.status.needs]
        return found + [made for results in needed for role, made in results.items() if not role.startswith("store:")]

    def _results(self, stage: StageFacts) -> Iterator[tuple[str, Any]]:
        """Yield one entity for each role of a stage's outputs, and write the list of their files."""
        roles: dict[str, list[dict[str, Any]]] = {}
        for each in stage.outputs:
            roles.setdefault(str(each["role"]), []).append(dict(each))
        if roles and stage.status.kind != "promote":  # a promotion passes on what others vouch for
            lines = "".join(f"{each['sha256']}  {each['path']}\n" for each in stage.outputs)
            self._text(f"manifests/{_flat(stage.key)}.sha256", lines, f"Outputs of {stage.key}, for sha256sum --check")
        for role, outputs in roles.items():
            if role.partition(":")[0] in _COPIED and len(outputs) == 1 and outputs[0]["size"] <= _MOST_COPIED:
                yield role, self._copied(stage, role, outputs[0])
            else:
                yield role, self._named(stage, role, outputs)

    def _copied(self, stage: StageFacts, role: str, output: dict[str, Any]) -> Any:
        source = self._rundir.root / output["path"]
        if not source.is_file() or _digest(source) != output["sha256"]:
            return self._named(stage, role, [output])
        path = f"results/{_flat(stage.key)}/{role.replace(':', '-')}{source.suffix}"
        return self._file(source, path, f"{role} of {stage.key}", "application/json")

    def _named(self, stage: StageFacts, role: str, outputs: list[dict[str, Any]]) -> Any:
        """Return the entity of files that stay in the campaign's folder: of one file, or of the folder that holds them."""
        if len(outputs) == 1:
            made = self._entities.output(outputs[0], f"{role} of {stage.key}")
        else:
            size = sum(int(each["size"]) for each in outputs)
            about = f"{len(outputs)} files, {size} bytes, listed with SHA-256 in manifests/{_flat(stage.key)}.sha256"
            parts = [self._entities.output(each, "") for each in outputs] if len(outputs) <= _MOST_LISTED else []
            folder = os.path.commonpath([each["path"] for each in outputs])
            made = self._entities.folder(folder, name=f"{role} of {stage.key}", description=about, hasPart=parts)
        self._crate.root_dataset.append_to("hasPart", made)
        return made

    def _file(self, source: Path, path: str, about: str, form: str) -> Any:
        if not source.is_file():
            return None
        facts = {"name": path, "description": about, "encodingFormat": form, "contentSize": str(source.stat().st_size)}
        return self._crate.add_file(source, path, properties={**facts, "sha256": _digest(source)})

    def _text(self, path: str, text: str, about: str) -> None:
        (self._target / path).parent.mkdir(parents=True, exist_ok=True)
        (self._target / path).write_text(text)
        self._file(self._target / path, path, about, "text/plain")


def _make_room(target: Path, campaign_id: str) -> None:
    """Make the folder, or take away the files of an earlier crate of this campaign.

    Raises:
        ConfigError: Something else stands there.
    """
    folder_in(target)
    if any(target.iterdir()) and _identity(target) != campaign_id:
        what, remedy = "something stands there that is no crate of this campaign", "Give a new folder with --into."
        raise ConfigError(what, str(target), remedy)
    if (target / METADATA).is_file():
        entities = json.loads((target / METADATA).read_text())["@graph"]
        for each in entities:
            path = target / str(each["@id"])
            if each.get("@type") == "File" and ":" not in each["@id"] and path.resolve().is_relative_to(target.resolve()):
                path.unlink(missing_ok=True)


def _identity(target: Path) -> str:
    """Return the campaign that a crate tells of; empty where there is no crate."""
    try:
        graph = json.loads((target / METADATA).read_text())["@graph"]
        return str(next(each.get("identifier", "") for each in graph if each["@id"] == "./"))
    except (OSError, ValueError, LookupError, StopIteration):
        return ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flat(key: str) -> str:
    return key.replace("/", "-")
