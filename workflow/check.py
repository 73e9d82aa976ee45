"""Everything about a campaign file that can be known without a place in a queue."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.feasibility import LARGE, LONGEST_STEP_S, MARGIN
from workflow.allocation.launch import launcher
from workflow.batch.scheduler import options_of, scheduler_kinds
from workflow.campaign import Campaign, Header, stage_kind
from workflow.data_check import data_findings
from workflow.draft import Draft, draft_campaign, place
from workflow.environment import read_archive
from workflow.errors import CampaignError, SiteError
from workflow.graph import direct_needs, in_order
from workflow.model_check import built_models, shortcomings
from workflow.plan import make_plan
from workflow.preview import previews
from workflow.site import Site
from workflow.validation import nearest, validate

_LONG_STEP_S = 1.0
"""Seconds of a training step on one large structure above which a model is warned of: an epoch of 3,600 takes an hour."""


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        problems: Everything wrong, in the order of the file.
        found: What was looked at and is well, one line each.
        warnings: What runs, but gives a model that is worse than its user may think, one line each.
        unchecked: What was not looked at, and why.
    """

    problems: list[CampaignError] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_campaign(
    path: Path,
    site: str | None = None,
    *,
    elsewhere: bool = False,
    models: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """Check a campaign file.

    Args:
        path: The YAML file.
        site: Name of a site; none takes the file's.
        elsewhere: Whether this machine is another one than the site, so that its files and commands cannot be seen.
        models: Whether to build each stage's model once, on no memory, in a process of its own.
        tell: Called with how far it is.

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
        _check_scripts(campaign, report, elsewhere)
        _check_archive(campaign.site, report, elsewhere)
        report.warnings += shortcomings(campaign)
        if models:
            _check_models(draft, campaign, report, tell)
    named = draft.document.fields.get("stages")
    if campaign is None or draft.header is None or not isinstance(named, dict) or len(campaign.stages) < len(named):
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
    problems, found = data_findings(draft, campaign, elsewhere=elsewhere)
    report.problems += problems
    report.found += found
    if elsewhere:
        report.unchecked.append(f"data files: they are on {campaign.site.name}, not here")


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
        if stage.trainings:
            times = f"{stage.instances} × " if stage.instances > 1 else ""
            report.found.append(f"trainings of {stage.name}: {times}{stage.trainings:,}: {stage.product}")
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
    missing = [f"'{command}'" for command in [*absent, *([] if program.found() else [program.program])]]
    if missing:
        what = f"no command{'s' * (len(missing) > 1)} {', '.join(missing)} on this machine"
        remedy = "Run this on a login node of the site; elsewhere: `campaign check --elsewhere`."
        report.problems.append(SiteError(what, f"site {site.name}", remedy))


def _check_scripts(campaign: Campaign, report: CheckReport, elsewhere: bool) -> None:
    """Make every batch script once, which finds what the site or its overlay lacks; accounts stand where the site is."""
    if elsewhere:
        report.unchecked.append(f"account and batch scripts: your overlay of {campaign.site.name} need not be here")
        return
    refused = [stage.name for stage in make_plan(campaign).stages if stage.refusals]
    try:
        report.found.append(f"batch scripts: {len(previews(campaign, without=refused))} for {campaign.site.name}")
    except SiteError as error:
        report.problems.append(error)


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


def _check_models(draft: Draft, campaign: Campaign, report: CheckReport, tell: Callable[[str], None]) -> None:
    try:
        built = built_models(campaign, tell)
    except ModuleNotFoundError as error:
        report.unchecked.append(f"models: {error}; pip install 'campaign[model]'")
        return
    told = {each.what for each in report.problems}
    for name, facts in built.items():
        if facts.get("what") in told:  # by its own key already
            continue
        if "parameters" in facts:
            step = f"{_gflop(facts)} GFLOP and {facts['large_structure_gb']:.2f} GB"
            size = f"{facts['parameters']:,} parameters with one branch"
            report.found.append(f"model of {name}: {size}; a training step on {LARGE} atoms takes about {step}")
        what, remedy = _model_fault(facts, campaign.site)
        if what:
            stage = name.partition(",")[0]
            report.problems.append(draft.document.fault(what, place(draft.document, stage, ()), remedy))
        elif (seconds := _step_s(facts, campaign.site)) > _LONG_STEP_S:
            slow = f"{_told_step(facts, campaign.site)}: {3600 / seconds:,.0f} such structures an hour on each device"
            report.warnings.append(f"model of {name}: {slow}")


def _model_fault(facts: dict[str, Any], site: Site) -> tuple[str, str]:
    """Return what is wrong with a model and its remedy; empty where a device can train it on one large structure."""
    if "what" in facts:
        return f"the model cannot be built: {facts['what']}", facts["remedy"]
    need, there = MARGIN * facts["large_structure_gb"], site.node.device_memory_gb
    smaller = "Take fewer features, layers or degrees, or a shorter cutoff"
    if need > there:
        what = (
            f"one structure of {LARGE} atoms needs about {need:.1f} GB, margin included; a device of {site.name} has {there:g} GB"
        )
        return f"the model is too large to train: {what}", f"{smaller}."
    if _step_s(facts, site) > LONGEST_STEP_S:
        what = f"the model is too slow to train: {_told_step(facts, site)}; more than {LONGEST_STEP_S:g} s is out of reason"
        return what, f"{smaller}, or a site with faster devices (`node.device_gflop_per_s`)."
    return "", ""


def _step_s(facts: dict[str, Any], site: Site) -> float:
    """Return about how long a device takes for a training step on one large structure, s; 0 where nobody says how fast it is."""
    rate = site.node.device_gflop_per_s
    return float(facts["large_structure_gflop"]) / rate if rate and "large_structure_gflop" in facts else 0.0


def _told_step(facts: dict[str, Any], site: Site) -> str:
    rate = site.node.device_gflop_per_s
    seconds = f"{_step_s(facts, site):.1f} s of a device of {site.name} ({_gflop(facts)} GFLOP at {rate:,g} GFLOP/s)"
    return f"a training step on one structure of {LARGE} atoms takes about {seconds}"


def _gflop(facts: dict[str, Any]) -> str:
    value = float(facts["large_structure_gflop"])
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _in_file_order(problems: list[CampaignError]) -> list[CampaignError]:
    unique = {(each.where, each.what): each for each in problems}
    return sorted(unique.values(), key=lambda each: _line(each.where))


def _line(where: str) -> int:
    """Return the line in `file:line: key`; places without one come last."""
    number = where.split(": ")[0].rpartition(":")[2]
    return int(number) if number.isdigit() else 1 << 30
