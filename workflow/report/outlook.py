"""What a report can tell of a campaign that has not begun: the plan of its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from model.outcome import write_json
from workflow.draft import load_campaign
from workflow.report.facts import Facts, gather
from workflow.resolved import resolved_json
from workflow.rundir import RunDir


def outlook(file: Path) -> Facts:
    """Gather the facts of a campaign as its first driver would write them down, without leaving anything behind.

    Raises:
        CampaignError: The file has a fault.
    """
    campaign = load_campaign(file)
    with TemporaryDirectory() as name:
        fields = {"name": campaign.name, "file": str(campaign.path), **resolved_json(campaign)}
        write_json(RunDir(Path(name)).campaign, fields)
        facts = gather(Path(name))
    return replace(facts, status=replace(facts.status, folder=campaign.folder))
