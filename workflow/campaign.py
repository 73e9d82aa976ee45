"""A campaign file, typed: branches, stages and their graph, resolved for one site."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from model.config import Splits, Strict
from model.registry import require
from workflow.document import Document, read_document
from workflow.errors import CampaignError, ConfigError, SiteError
from workflow.graph import expanded, graph_faults
from workflow.places import campaign_folder, fill
from workflow.site import Site, load_site, merge, site_names
from workflow.stages.base import Stage, StageSpec
from workflow.validation import Fault, nearest, validate

_STAGES = Path(__file__).parent / "stages"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_STAGE_NAME = re.compile(_NAME)
_SIZES = {"nodes", "devices"}
_OF_A_JOB = ("nodes", "devices", "spares", "walltime", "links", "attempts")

Name = Annotated[str, StringConstraints(pattern=_NAME)]
"""A name that becomes part of a path."""


class BranchSource(Strict):
    """One data set at one level of theory."""

    reader: str = Field(description="Name of a reader.")
    path: str | tuple[str, ...] = Field(description="Files or folders; {data} and the like come from the site's paths.")
    options: dict[str, Any] = Field({}, description="The reader's own options.")
    weight: float = Field(1.0, ge=0, description="λ_b, weight of the branch in the loss.")
    share: float | None = Field(None, gt=0, description="p_b, share of draws; none: proportional to its structures.")
    limit: int | None = Field(None, ge=1, description="Convert so many structures only.")


class Budget(Strict):
    """What a campaign may cost."""

    node_hours: float = Field(gt=0, description="Node-hours of all jobs together.")


class Header(Strict):
    """The campaign file without its stages, whose types depend on their kinds."""

    name: Name = Field(description="Name of the campaign, of letters, digits, - and _; names its folder.")
    site: str = Field("local", description="Site to plan and run on; `--site` overrides.")
    folder: str = Field("runs/{name}", min_length=1, description="The campaign's folder, relative to this file.")
    budget: Budget | None = Field(None, description="Upper limit of the cost; a stage over it is held.")
    splits: Splits = Splits()
    branches: dict[Name, BranchSource] = Field(
        description="Data sets to train on, each with a head of its own, by name: letters, digits, - and _."
    )
    sources: dict[Name, BranchSource] = Field(
        {},
        description="Data sets that no pre-training sees, converted all the same: fine-tuning tasks, screening candidates; "
        "by name: letters, digits, - and _.",
    )


@dataclass(frozen=True)
class Instance:
    """One stage as it runs: a plain stage, or one of those that `each` makes.

    Attributes:
        key: `train`, or `train/2`.
        stage: Name in the file.
        number: 0 for a plain stage, else from 1.
        spec: Its typed keys, resolved for the site; `nodes` is set where it needs an allocation.
        needs: Keys of the instances that must be done before.
    """

    key: str
    stage: str
    number: int
    spec: StageSpec
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Campaign:
    """A campaign resolved for one site.

    Attributes:
        path: The YAML file.
        header: Everything but the stages.
        site: The site.
        stages: Typed stages by name, in file order.
        folder: The campaign's folder, absolute.
    """

    path: Path
    header: Header
    site: Site
    stages: dict[str, StageSpec]
    folder: Path

    @property
    def name(self) -> str:
        """Return the campaign's name."""
        return self.header.name

    def files(self, name: str) -> tuple[Path, ...]:
        """Return the files of a branch or source, braces filled in, relative ones taken from the file's folder."""
        path = {**self.header.sources, **self.header.branches}[name].path
        texts = (path,) if isinstance(path, str) else path
        where = f"{self.path}: {'branches' if name in self.header.branches else 'sources'}.{name}.path"
        return tuple(self.path.parent / Path(fill(text, self.site.paths, where)).expanduser() for text in texts)

    def instances(self) -> list[Instance]:
        """Return all stage instances, needed ones first."""
        return [Instance(*each) for each in expanded(self.stages)]

    def ancestors(self, key: str) -> list[str]:
        """Return the keys of all instances that one rests on, directly or not."""
        needs = {each.key: each.needs for each in self.instances()}
        found: list[str] = []
        queue = list(needs[key])
        while queue:
            each = queue.pop(0)
            if each not in found:
                found.append(each)
                queue.extend(needs[each])
        return found


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
        return campaign_folder(self.document, self.header.folder, {**self.site.paths, "name": self.header.name})


def stage_kinds() -> list[str]:
    """List the stage kinds: the modules of `workflow/stages`."""
    return sorted(p.stem for p in _STAGES.glob("*.py") if p.stem not in ("__init__", "base") and p.stem[0] != "_")


@cache
def stage_kind(name: str) -> Stage:
    """Return the stage kind of this name."""
    require(name, stage_kinds(), "stage kind", "kind")
    kind: Stage = importlib.import_module(f"workflow.stages.{name}").Kind()
    return kind


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


def _header_faults(draft: Draft) -> Iterator[CampaignError]:
    """Find what is wrong with a header whose keys are each well."""
    if draft.header is None or draft.site is None:
        return
    if not draft.header.branches and not draft.header.sources:
        yield draft.document.fault("no data sets", ("branches",), "Name at least one under `branches`.")
    try:
        draft.folder()
    except ConfigError as error:
        yield error


def _site(document: Document, override: str | None, faults: list[CampaignError]) -> Site | None:
    name = override or document.fields.get("site", "local")
    try:
        return load_site(str(name))
    except SiteError as error:
        unknown = error.where == "site"
        where = "--site" if override else document.where(("site",))
        faults.append(SiteError(error.what, where, error.remedy) if unknown else error)
        return None


def _stages(document: Document, site: Site | None, faults: list[CampaignError]) -> dict[str, StageSpec]:
    given = document.fields.get("stages")
    if not isinstance(given, dict) or not given:
        faults.append(document.fault("no stages", ("stages",), "Name at least one stage: `data: {kind: convert}`."))
        return {}
    typed: dict[str, StageSpec] = {}
    for name, fields in given.items():
        try:
            spec, wrong = _stage(fields, site)
        except CampaignError as error:
            wrong = [Fault(error.what, tuple(key for key in error.where.split(".") if key), error.remedy)]
            spec = None
        if not _STAGE_NAME.fullmatch(str(name)):
            remedy = "Use letters, digits, - and _; begin with a letter or digit."
            wrong.append(Fault(f"'{name}' is no name for a stage", (), remedy))
        elif spec is not None:
            typed[str(name)] = spec
        faults += [document.fault(each.what, ("stages", str(name), *each.key), each.remedy) for each in wrong]
    return typed


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
    wrong += [Fault(f"a site cannot change '{key}'", (key,), "Take it out here.") for key in ("kind", "on") if key in over]
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
