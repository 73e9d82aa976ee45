"""The entities of an RO-Crate that are no files in it: who, with what software, out of which data sets, what was done."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.rocrate import ROCrate

from workflow import __version__
from workflow.report.facts import StageFacts
from workflow.report.provenance import Origin
from workflow.report.record import read_json_or_remark

_LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "MIT": "https://spdx.org/licenses/MIT",
}
_STATES = {
    "done": "http://schema.org/CompletedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
    "cancelled": "http://schema.org/FailedActionStatus",
}
_ACTIVE = "http://schema.org/ActiveActionStatus"


class Entities:
    """Adds entities to a crate, each once.

    Args:
        crate: The crate.
        folder: The campaign's folder.
        base: Address of the campaign's folder, for what the crate does not hold.
    """

    def __init__(self, crate: ROCrate, folder: Path, base: str) -> None:
        self._crate, self._folder, self._base = crate, folder, base

    def add(self, identifier: str, kind: str | list[str], **properties: Any) -> Any:
        """Return the entity of this name, made where there is none; properties without a value are left out."""
        known = self._crate.dereference(identifier)
        if known is not None:
            return known
        references = {name: value for name, value in properties.items() if _refers(value)}
        plain = {name: value for name, value in properties.items() if value and name not in references}
        entity = self._crate.add_jsonld({"@id": identifier, "@type": kind, **plain})
        for name, value in references.items():
            link(entity, name, value if isinstance(value, list) else [value])
        return entity

    def person(self) -> Any:
        """Return whom the campaign's folder belongs to: who ran it."""
        try:
            name = self._folder.owner()
        except (KeyError, OSError):
            name = "unknown"
        return self.add(f"#user-{_slug(name)}", "Person", name=name)

    def instrument(self, stage: StageFacts, driver: Mapping[str, Any]) -> Any:
        """Return the program that did a stage, in the versions that it told."""
        versions = stage.outcome.get("versions") or driver
        parts = [self._software(name, str(version)) for name, version in sorted(versions.items()) if name != "campaign"]
        own, kind = str(driver.get("campaign") or __version__), stage.status.kind
        mark = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()[:8]
        facts = {"name": f"campaign, stage kind {kind}", "softwareVersion": own, "softwareRequirements": parts}
        return self.add(f"{self._base}software/campaign-{kind}-{mark}", "SoftwareApplication", **facts)

    def action(self, stage: StageFacts, origin: Origin) -> Any:
        """Return what a stage did, when, for whom and how it ended; its inputs and outputs are added by others."""
        tries = stage.history.tries
        begun = min((each.started or each.asked for each in tries), default=None)
        ended = max((each.ended for each in tries if each.ended), default=stage.history.judged)
        state = stage.status.state
        return self.add(
            f"#stage-{_slug(stage.key)}",
            "CreateAction",
            name=f"Stage {stage.key} ({stage.status.kind})",
            description="; ".join(f"{name}: {text}" for name, text in origin if name not in ("stage", "read from")),
            agent=self.person(),
            startTime=_time(begun),
            endTime=_time(ended) if state in _STATES else None,
            actionStatus=_STATES.get(state, _ACTIVE),
            error=": ".join(text for text in (stage.status.cause, stage.status.message) if text) if state == "failed" else None,
        )

    def sources(self, stage: StageFacts) -> list[Any]:
        """Return the data sets that a conversion read, with their licences as its stores tell them."""
        found = []
        for name, facts in sorted((stage.result.get("branches") or {}).items()):
            manifest = read_json_or_remark(self._folder / str(facts.get("store")) / "manifest.json", []) or {}
            found.append(self._source(name, manifest))
        return found

    def output(self, output: Mapping[str, Any], name: str) -> Any:
        """Return a file that a receipt vouches for and that stays in the campaign's folder."""
        path = str(output["path"])
        facts = {"contentSize": str(output["size"]), "sha256": str(output["sha256"]), "encodingFormat": _form(path)}
        return self.add(self._base + quote(path), "File", name=name or path, **facts)

    def folder(self, path: str, **properties: Any) -> Any:
        """Return a folder below the campaign's."""
        return self.add(f"{self._base}{quote(path)}/", "Dataset", **properties)

    def _source(self, name: str, manifest: Mapping[str, Any]) -> Any:
        about, reader = manifest.get("source") or {}, (manifest.get("reader") or {}).get("name", "?")
        title, files = about.get("title") or name, manifest.get("sources") or []
        told = ", ".join(f"{each['name']} ({each['size']} bytes, SHA-256 {each['sha256']})" for each in files[:50])
        more = f" and {len(files) - 50} more" if len(files) > 50 else ""
        level = f" Level of theory: {about['level_of_theory']}." if about.get("level_of_theory") else ""
        cited = f" Cite: {about['citation']}." if about.get("citation") else ""
        origin = f"{told or 'files that are not recorded'}{more}"
        source = self.folder(
            f"sources/{name}",
            name=f"{name}: {title}",
            description=f"Read as {title} by the reader {reader} from {origin}.{level}{cited}",
            license=self._licence(str(about.get("licence") or "")),
            url=about.get("url"),
        )
        self._crate.root_dataset.append_to("hasPart", source)
        return source

    def _licence(self, name: str) -> Any:
        if not name:
            return None
        known = next((key for key in _LICENCES if name.startswith(key)), name)
        page = _LICENCES.get(known, f"#licence-{_slug(name)}")
        return self.add(page, "CreativeWork", name=known, description=f"Licence: {known}")

    def _software(self, name: str, version: str) -> Any:
        public = version.partition("+")[0]  # without the mark of a local build
        page = f"https://pypi.org/project/{name}/{public}/"
        if name == "python":
            page = f"https://www.python.org/downloads/release/python-{public.replace('.', '')}/"
        return self.add(page, "SoftwareApplication", name=name, softwareVersion=version, url=page)


def link(entity: Any, name: str, others: list[Any]) -> None:
    """Let an entity refer to others: to one as a single value, to several as a list, as the specification wants it."""
    unique = list({each.id: each for each in others}.values())
    if unique:
        entity[name] = unique[0] if len(unique) == 1 else unique


def _refers(value: Any) -> bool:
    """Say whether a value is an entity or a list of such."""
    first = value[0] if isinstance(value, list) and value else value
    return hasattr(first, "id") and hasattr(first, "crate")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def _form(path: str) -> str:
    known = {".json": "application/json", ".jsonl": "application/jsonl"}
    return known.get(Path(path).suffix, "application/octet-stream")


def _time(seconds: float | None) -> str | None:
    return None if not seconds else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
