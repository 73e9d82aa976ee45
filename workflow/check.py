"""Everything about a campaign file that can be known without a place in a queue."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.feasibility import LARGE
from model.registry import reader, readers
from workflow.allocation.launch import launcher
from workflow.batch.scheduler import options_of, scheduler_kinds
from workflow.campaign import BranchSource, Campaign, Header, stage_kind
from workflow.draft import Draft, draft_campaign, place
from workflow.environment import read_archive
from workflow.errors import CampaignError, ConfigError, SiteError
from workflow.graph import direct_needs, in_order
from workflow.model_check import built_models
from workflow.plan import make_plan
from workflow.search.feasibility import MARGIN
from workflow.site import Site
from workflow.validation import nearest, validate

_QUICKSTART = "quickstart-data"


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        problems: Everything wrong, in the order of the file.
        found: What was looked at and is well, one line each.
        unchecked: What was not looked at, and why.
    """

    problems: list[CampaignError] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_campaign(path: Path, site: str | None = None, *, elsewhere: bool = False, models: bool = True) -> CheckReport:
    """Check a campaign file.

    Args:
        path: The YAML file.
        site: Name of a site; none takes the file's.
        elsewhere: Whether this machine is another one than the site, so that its files and commands cannot be seen.
        models: Whether to build each stage's model once, on no memory, in a process of its own.

    Raises:
        ConfigError: The file cannot be read as a YAML mapping at all.
    """
    draft = draft_campaign(path, site)
    report = CheckReport(problems=list(draft.faults))
    campaign = _sound(draft)
    if campaign is not None:
        _check_sources(draft, campaign, report, elsewhere)
        _check_stages(draft, campaign, report)
        _check_commands(campaign, report, elsewhere)
        _check_archive(campaign.site, report, elsewhere)
        if models:
            _check_models(draft, campaign, report)
    if campaign is None or draft.header is None or len(campaign.stages) < len(draft.document.fields.get("stages") or {}):
        report.unchecked.append("what rests on the faults told here; check again when they are mended")
    if not models:
        report.unchecked.append("the models: left out on request")
    report.problems = _in_file_order(report.problems)
    return report


def _sound(draft: Draft) -> Campaign | None:
    """Return the campaign without its faulty parts and what rests on them, or None where no site is known."""
    header = draft.header or _sound_header(draft)
    if header is None or draft.site is None:
        return None
    whole = dict(draft.stages)
    while broken := [name for name, spec in whole.items() if any(need not in whole for need in direct_needs(spec))]:
        whole = {name: spec for name, spec in whole.items() if name not in broken}
    stages = {name: whole[name] for name in in_order(whole)[0]}
    fans = {name: spec for name, spec in stages.items() if not spec.each or stages[spec.each].kind == "promote"}
    if len(fans) < len(stages):
        return None
    return Campaign(draft.document.path.resolve(), header, draft.site, stages, Path())


def _sound_header(draft: Draft) -> Header | None:
    """Return what remains of the header without its faulty keys and data sets."""
    fields: dict[str, Any] = {key: value for key, value in draft.document.fields.items() if key != "stages"}
    for fault in validate(Header, fields)[1]:
        first, second = (*fault.key, "")[:2]
        if first in ("branches", "sources") and isinstance(fields.get(first), dict):
            fields[first] = {name: each for name, each in fields[first].items() if str(name) != second}
        else:
            fields.pop(first, None)
    header: Header | None = validate(Header, {"name": "unnamed", "branches": {}, **fields})[0]
    return header


def _check_sources(draft: Draft, campaign: Campaign, report: CheckReport, elsewhere: bool) -> None:
    groups = {"branches": campaign.header.branches, "sources": campaign.header.sources}
    for group, named in groups.items():
        for name, source in named.items():
            report.problems += _reader_faults(draft, (group, name), source)
            if not elsewhere:
                _check_files(draft, (group, name), source, campaign, report)
    if elsewhere:
        report.unchecked.append(f"data files: they are on {campaign.site.name}, not here")


def _reader_faults(draft: Draft, key: tuple[str, str], source: BranchSource) -> Iterator[ConfigError]:
    known = readers()
    if source.reader not in known:
        remedy = f"{nearest(source.reader, known)}Known: {', '.join(known)}."
        yield draft.document.fault(f"no reader '{source.reader}'", (*key, "reader"), remedy)
        return
    for each in validate(reader(source.reader).Config, source.options)[1]:
        yield draft.document.fault(each.what, (*key, "options", *each.key), each.remedy)


def _check_files(draft: Draft, key: tuple[str, str], source: BranchSource, campaign: Campaign, report: CheckReport) -> None:
    overlay = f"~/.config/campaign/sites/{campaign.site.name}.yaml"
    where = draft.document.where((*key, "path"))
    try:
        paths = campaign.files(key[1])
    except ConfigError as error:
        report.problems.append(ConfigError(error.what, where, error.remedy))
        return
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        remedy = _made_here(missing) or f"Put the data there, or give the right folder under `paths:` in {overlay}."
        report.problems.append(ConfigError(f"no such file: {', '.join(missing)}", where, remedy))
    elif source.reader in readers():
        _count_files(paths, source, where, report, key[1])


def _made_here(missing: list[str]) -> str:
    """Say how to make data that the templates name; empty for others."""
    folders = dict.fromkeys(path.partition(_QUICKSTART)[0] + _QUICKSTART for path in missing if _QUICKSTART in Path(path).parts)
    return f"Make it, in seconds: python -m model.data.quickstart {next(iter(folders))}" if folders else ""


def _count_files(paths: tuple[Path, ...], source: BranchSource, where: str, report: CheckReport, name: str) -> None:
    module = reader(source.reader)
    config, faults = validate(module.Config, source.options)
    if faults:
        return
    try:
        files = list(module.files(list(paths), config))
    except CampaignError as error:
        report.problems.append(ConfigError(error.what, where, error.remedy))
        return
    if not files:
        remedy = f"The reader '{source.reader}' looks for its own containers there; give another path, or another reader."
        report.problems.append(ConfigError(f"no file that '{source.reader}' reads", where, remedy))
        return
    size = sum(file.stat().st_size for file in files if file.is_file())
    report.found.append(f"data {name}: {len(files)} file{'s' * (len(files) != 1)}, {size / 1e6:,.1f} MB, reader {source.reader}")


def _check_stages(draft: Draft, campaign: Campaign, report: CheckReport) -> None:
    for name, spec in campaign.stages.items():
        try:
            problems = stage_kind(spec.kind).problems(spec, campaign)
        except CampaignError as error:
            problems = [(error.what, error.where, error.remedy)]
        for what, under, remedy in problems:
            report.problems.append(
                draft.document.fault(what, place(draft.document, name, tuple(filter(None, under.split(".")))), remedy)
            )
    for stage in make_plan(campaign).stages:
        for each in stage.refusals:
            if each.key == "trial":  # the stage's own check says it with the key of the trial
                continue
            block = f"This would fit: {each.block(campaign.site.name)}" if each.fits else "Nothing there would fit."
            key = place(draft.document, stage.name, (each.key,))
            report.problems.append(draft.document.fault(f"{each.rule} [{each.source}]", key, block))
    report.found.append(f"stages: {len(campaign.stages)} on {campaign.site.name}")


def _check_commands(campaign: Campaign, report: CheckReport, elsewhere: bool) -> None:
    site = campaign.site
    try:
        commands, program = _batch_commands(site), launcher(site.launcher)
    except CampaignError as error:
        report.problems.append(error)
        return
    if elsewhere:
        report.unchecked.append(f"commands: {', '.join([*commands, program.program])} are needed on {site.name}")
        return
    absent = [command for command in commands if shutil.which(command) is None]
    for command in [*absent, *([] if program.found() else [program.program])]:
        remedy = "Run this on a login node of the site; elsewhere: `campaign check --elsewhere`."
        report.problems.append(SiteError(f"no command '{command}' on this machine", f"site {site.name}", remedy))


def _check_archive(site: Site, report: CheckReport, elsewhere: bool) -> None:
    if not site.archive:
        return
    if elsewhere:
        report.unchecked.append(f"the packed environment {site.archive}: it is on {site.name}, not here")
        return
    try:
        archive = read_archive(path := Path(site.archive))
    except CampaignError as error:
        report.problems.append(error)
        return
    if path.stat().st_size != archive.size:
        what = f"the packed environment has {path.stat().st_size} bytes, not the {archive.size} that were built"
        report.problems.append(SiteError(what, site.archive, "Build it anew: campaign env build."))


def _batch_commands(site: Site) -> tuple[str, ...]:
    known = scheduler_kinds()
    if site.scheduler.kind not in known:
        remedy = f"{nearest(site.scheduler.kind, known)}Known: {', '.join(known)}."
        raise SiteError(f"no scheduler '{site.scheduler.kind}'", f"site {site.name}: scheduler.kind", remedy)
    module = importlib.import_module(f"workflow.batch.{site.scheduler.kind}")
    if hasattr(module, "Options"):
        options_of(site, module.Options)
    return tuple(getattr(module, "COMMANDS", ()))


def _check_models(draft: Draft, campaign: Campaign, report: CheckReport) -> None:
    try:
        built = built_models(campaign)
    except ModuleNotFoundError as error:
        report.unchecked.append(f"models: {error}; pip install 'campaign[model]'")
        return
    told = {each.what for each in report.problems}
    for name, facts in built.items():
        if facts.get("what") in told:  # by its own key already
            continue
        if "parameters" in facts:
            report.found.append(f"model of {name}: {facts['parameters']:,} parameters with one branch")
        what, remedy = _model_fault(facts, campaign.site)
        if what:
            stage = name.partition(",")[0]
            report.problems.append(draft.document.fault(what, place(draft.document, stage, ()), remedy))


def _model_fault(facts: dict[str, Any], site: Site) -> tuple[str, str]:
    """Return what is wrong with a model and its remedy; empty where a device can train it on one large structure."""
    if "what" in facts:
        return f"the model cannot be built: {facts['what']}", facts["remedy"]
    need, there = MARGIN * facts["large_structure_gb"], site.node.device_memory_gb
    if need <= there:
        return "", ""
    what = f"one structure of {LARGE} atoms needs about {need:.1f} GB, margin included; a device of {site.name} has {there:g} GB"
    return f"the model is too large to train: {what}", "Take fewer features, layers or degrees, or a shorter cutoff."


def _in_file_order(problems: list[CampaignError]) -> list[CampaignError]:
    unique = {(each.where, each.what): each for each in problems}
    return sorted(unique.values(), key=lambda each: _line(each.where))


def _line(where: str) -> int:
    """Return the line in `file:line: key`; places without one come last."""
    number = where.split(": ")[0].rpartition(":")[2]
    return int(number) if number.isdigit() else 1 << 30
