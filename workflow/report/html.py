"""The report: one HTML file that opens from disk without network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from model.outcome import write_bytes
from workflow import __version__
from workflow.errors import ConfigError
from workflow.report import findings, sections
from workflow.report.blocks import Section
from workflow.report.facts import Facts, gather
from workflow.report.outlook import outlook
from workflow.rundir import RunDir
from workflow.targets import file_in

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_ORDER: tuple[Callable[[Facts], Section], ...] = (
    sections.summary,
    sections.graph,
    sections.costs,
    findings.data,
    findings.searches,
    findings.promotions,
    findings.trainings,
    findings.comparisons,
    findings.finetunings,
    findings.screenings,
    sections.times,
    sections.attempts,
    sections.provenance,
)
_OF_KINDS: dict[Callable[[Facts], Section], tuple[str, ...]] = {
    findings.searches: ("hpo",),
    findings.promotions: ("promote",),
    findings.trainings: ("train",),
    findings.comparisons: ("compare",),
    findings.finetunings: ("finetune",),
    findings.screenings: ("blend", "screen"),
}
"""Kinds of stages that alone give a section something to show."""


def write_report(folder: Path, into: Path | None, file: Path | None = None) -> Path:
    """Write the report of a campaign as it stands, or, before it has begun, of what its file plans.

    Args:
        folder: The campaign's folder.
        into: The file to write; None takes `report.html` in the folder.
        file: The campaign's YAML file, where known.

    Returns:
        The file.

    Raises:
        ConfigError: There is no campaign, or no folder for the file.
    """
    if file is None and not folder.is_dir():
        raise ConfigError("no campaign has begun there", str(folder), "Start it with `campaign run FILE`.")
    has_begun = file is None or RunDir(folder).campaign.exists() or RunDir(folder).journal.exists()
    path = into or (RunDir(folder).report if has_begun else Path(f"{folder.name}-report.html"))
    whole = file_in(path)
    facts = gather(folder) if has_begun or file is None else outlook(file)
    write_bytes(whole, render(facts).encode())
    return path


def render(facts: Facts) -> str:
    """Return the page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_TEMPLATE.read_text())
    made = [section for make in _ORDER if (section := make(facts)).blocks or _may_come(make, facts)]
    title = f"{facts.status.name}: {facts.status.state}"
    return page.render(title=title, status=facts.status, facts=facts, sections=made, version=__version__)


def _may_come(make: Callable[[Facts], Section], facts: Facts) -> bool:
    """Say whether a section that shows nothing yet may show something later: one of a kind that no stage has never will."""
    kinds = {stage.kind for stage in facts.status.stages}
    return make not in _OF_KINDS or not kinds or not kinds.isdisjoint(_OF_KINDS[make])
