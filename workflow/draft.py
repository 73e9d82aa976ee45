"""Read a campaign file as far as it can be understood: every fault with its line, stages resolved for one site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workflow.campaign import Campaign, Header, stage_kind, stage_kinds
from workflow.document import Document, Key, read_document
from workflow.errors import CampaignError, ConfigError, SiteError
from workflow.graph import graph_faults, key_of, parts_of
from workflow.places import campaign_folder
from workflow.site import Site, load_site, merge, site_names
from workflow.stages.base import Stage, StageSpec
from workflow.validation import Fault, nearest, validate

_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAMING = "Use letters, digits, - and _; begin with a letter or digit."
_SIZES = {"nodes", "devices"}
_OF_ALL_SITES = ("kind", "on", "variants")
_OF_A_JOB = ("nodes", "devices", "spares", "walltime", "links", "attempts", "queue")


@dataclass(frozen=True)
class Draft:
    """A campaign file as far as it could be understood.

    Attributes:
        document: The file.
        header: None where it has faults.
        site: None where there is no such site, or it has faults.
        stages: Those stages that are whole.
        faults: Everything found wrong.
    """

    document: Document
    header: Header | None
    site: Site | None
    stages: dict[str, StageSpec]
    faults: tuple[CampaignError, ...]

    def campaign(self) -> Campaign:
        """Return the campaign.

        Raises:
            CampaignError: The first fault; its remedy counts the others.
        """
        if self.faults:
            first, others = self.faults[0], len(self.faults) - 1
            more = f"\n  {others} more: `campaign check {self.document.path}` lists them." if others else ""
            raise type(first)(first.what, first.where, first.remedy + more)
        assert self.header is not None and self.site is not None  # else there were faults
        return Campaign(self.document.path.resolve(), self.header, self.site, self.stages, self.folder())

    def folder(self) -> Path:
        """Return the campaign's folder; only where header and site are whole.

        Raises:
            ConfigError: It cannot be one.
        """
        assert self.header is not None and self.site is not None
        names = {**self.site.paths, "name": self.header.name}
        return campaign_folder(self.document, self.header.folder, names, self.site.name)


def load_campaign(path: Path, site: str | None = None) -> Campaign:
    """Read, check and resolve a campaign file.

    Args:
        path: The YAML file.
        site: Name of a site; none takes the file's.

    Raises:
        ConfigError: Something in the file is wrong; the first fault found is told, with the number of the others.
        SiteError: The site cannot be loaded.
    """
    return draft_campaign(path, site).campaign()


def draft_campaign(path: Path, site: str | None = None) -> Draft:
    """Read a campaign file as far as it can be understood, and collect every fault.

    Raises:
        ConfigError: The file cannot be read as a YAML mapping at all.
    """
    document = read_document(path, "Give the path of a campaign file; `campaign init` writes one.")
    faults: list[CampaignError] = list(document.faults)
    fields = {key: value for key, value in document.fields.items() if key != "stages"}
    header, wrong = validate(Header, fields)
    faults += [document.fault(each.what, each.key, each.remedy) for each in wrong if each.key != ("stages",)]
    where = _site(document, site, faults)
    stages = _stages(document, where, faults)
    faults += graph_faults(document, stages)
    return replace(draft := Draft(document, header, where, stages, ()), faults=(*faults, *_header_faults(draft)))


def place(document: Document, name: str, key: Key) -> Key:
    """Return where a key of a stage stands in the file: among the variant's own, or among those that all variants share."""
    own = (*key_of(name), *key)
    shared = (*key_of(name)[:2], *key)
    return shared if own[: len(key_of(name)) + 1] not in document.lines and shared[:3] in document.lines else own


def _header_faults(draft: Draft) -> Iterator[CampaignError]:
    """Find what is wrong with a header whose keys are each well."""
    if draft.header is None or draft.site is None:
        return
    needs_data = any(stage_kind(spec.kind).needs_data for spec in draft.stages.values())
    if needs_data and not draft.header.branches and not draft.header.sources:
        yield draft.document.fault("no data sets", ("branches",), "Name at least one under `branches`.")
    try:
        draft.folder()
    except ConfigError as error:
        yield error


def _site(document: Document, override: str | None, faults: list[CampaignError]) -> Site | None:
    name = document.fields.get("site", "local") if override is None else override
    try:
        return load_site(str(name))
    except SiteError as error:
        unknown = error.where == "site"
        where = "--site" if override is not None else document.where(("site",))
        faults.append(SiteError(error.what, where, error.remedy) if unknown else error)
        return None


def _stages(document: Document, site: Site | None, faults: list[CampaignError]) -> dict[str, StageSpec]:
    given = document.fields.get("stages")
    if not isinstance(given, dict) or not given:
        faults.append(document.fault("no stages", ("stages",), "Name at least one stage: `data: {kind: convert}`."))
        return {}
    typed: dict[str, StageSpec] = {}
    for name, fields in given.items():
        if not _STAGE_NAME.fullmatch(str(name)):
            faults.append(document.fault(f"'{name}' is no name for a stage", ("stages", str(name)), _NAMING))
            continue
        for part, own in _parts(document, str(name), fields, faults):
            spec = _typed(document, part, own, site, faults)
            if spec is not None:
                typed[part] = spec
    return {name: _with_parts(spec, list(typed)) for name, spec in typed.items()}


def _parts(document: Document, name: str, fields: Any, faults: list[CampaignError]) -> Iterator[tuple[str, Any]]:
    """Yield name and keys of each stage that an entry of the file stands for: one, or one for each of its variants."""
    variants = fields.get("variants") if isinstance(fields, dict) else None
    if variants is None:
        yield name, fields
        return
    way: Key = ("stages", name, "variants")
    if not isinstance(variants, dict) or not variants or not all(isinstance(own, dict) for own in variants.values()):
        faults.append(document.fault("not a mapping of names to keys", way, "Write `variants: {one: {…}, two: {…}}`."))
        return
    if fields.get("each") is not None:
        faults.append(document.fault("both `each` and `variants` fan this stage out", way, "Keep one of the two."))
    common = {key: value for key, value in fields.items() if key != "variants"}
    for variant, own in variants.items():
        if not _STAGE_NAME.fullmatch(str(variant)):
            faults.append(document.fault(f"'{variant}' is no name for a variant", (*way, str(variant)), _NAMING))
        elif wrong := sorted({"kind", "variants"} & own.keys()):
            faults.append(document.fault(f"a variant cannot change '{wrong[0]}'", (*way, variant, wrong[0]), "Take it out here."))
        else:
            sized = {key: value for key, value in common.items() if not (key in _SIZES and own.keys() & _SIZES)}
            yield f"{name}/{variant}", merge(sized, own)


def _typed(document: Document, name: str, fields: Any, site: Site | None, faults: list[CampaignError]) -> StageSpec | None:
    try:
        spec, wrong = _stage(fields, site)
    except CampaignError as error:
        spec, wrong = None, [Fault(error.what, tuple(key for key in error.where.split(".") if key), error.remedy)]
    for each in wrong:
        fault = document.fault(each.what, place(document, name, each.key), each.remedy)
        if str(fault) not in map(str, faults):  # the same fault of a key that all variants share
            faults.append(fault)
    return spec


def _with_parts(spec: StageSpec, names: list[str]) -> StageSpec:
    """Return a stage that needs each variant of a stage that it names as a whole."""
    needs = tuple(part for need in spec.needs for part in parts_of(need, names))
    return spec if needs == spec.needs else spec.model_copy(update={"needs": needs})


def _stage(fields: Any, site: Site | None) -> tuple[StageSpec | None, list[Fault]]:
    """Return a typed stage, resolved for the site, and its faults on every site that its `on:` names."""
    if not isinstance(fields, dict) or "kind" not in fields:
        raise ConfigError("no kind", "", f"Add `kind:`, one of {', '.join(stage_kinds())}.")
    kind = stage_kind(str(fields["kind"]))
    spec, wrong = _on_site(kind, fields, site.name if site else "")
    for other in fields["on"] if isinstance(fields.get("on"), dict) else ():
        if other not in site_names():
            remedy = f"{nearest(str(other), site_names())}Known: {', '.join(site_names())}."
            wrong.append(Fault(f"no site '{other}'", ("on", str(other)), remedy))
        elif site is None or other != site.name:
            wrong += [each for each in _on_site(kind, fields, other)[1] if each not in wrong]
    if spec is None or kind.on_login:
        return spec, wrong
    return spec.model_copy(update={"nodes": _nodes(spec, site)}), wrong


def _on_site(kind: Stage, fields: dict[str, Any], site: str) -> tuple[StageSpec | None, list[Fault]]:
    over = fields["on"].get(site, {}) if isinstance(fields.get("on"), dict) else {}
    over = over if isinstance(over, dict) else {}
    base = {key: value for key, value in fields.items() if not (key in _SIZES and over.keys() & _SIZES)}
    here = merge(base, over)
    spec, wrong = validate(kind.Spec, {**here, "kind": fields["kind"]})
    wrong += [Fault(f"a site cannot change '{key}'", (key,), "Take it out here.") for key in _OF_ALL_SITES if key in over]
    if kind.on_login:
        remedy = f"Take it out: a stage of kind {fields['kind']} is seconds of work on the login node."
        wrong += [Fault(f"'{key}' is for batch jobs", (key,), remedy) for key in _OF_A_JOB if here.get(key) is not None]
    if here.get("nodes") is not None and here.get("devices") is not None:
        wrong.append(Fault("both nodes and devices are given", ("devices",), "Keep one of the two."))
    return spec, [replace(each, key=("on", site, *each.key)) if each.key and each.key[0] in over else each for each in wrong]


def _nodes(spec: StageSpec, site: Site | None) -> int:
    if spec.devices is not None:
        return -(-spec.devices // (site.node.devices if site else 1))
    return spec.nodes or 1
