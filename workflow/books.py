"""What a campaign may cost, has cost and is held for, and the raising of that limit by a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from workflow import budget
from workflow.approval import leave, read_approval, waiting
from workflow.campaign import Campaign
from workflow.errors import ConfigError
from workflow.instances import keys_of
from workflow.journal import read_events
from workflow.ledger import Ledger
from workflow.resolved import stored_campaign
from workflow.rundir import RunDir

_HOURS = 366 * 24
"""Hours of the longest year: no site can give more node-hours in it than it has nodes in these."""


@dataclass(frozen=True)
class Held:
    """A stage that waits for approval.

    Attributes:
        key: The stage instance.
        jobs: Jobs that it may still need when none is repeated.
        job_node_hours: Cost of one of them at full walltime.
        node_hours: What is to be approved for all of them, beyond what was approved for it before.
    """

    key: str
    jobs: int
    job_node_hours: float
    node_hours: float


class Books:
    """What a campaign may cost, has cost, and is held for, with what was approved but not yet taken in.

    Args:
        folder: The campaign's folder.

    Attributes:
        passed_over: Files among the approvals that are none, each with what to do.

    Raises:
        ConfigError: No campaign has begun there, or it has no budget.
    """

    def __init__(self, folder: Path) -> None:
        self._rundir = RunDir(folder.resolve())
        self.campaign: Campaign = stored_campaign(self._rundir)
        self._ledger = Ledger(read_events(self._rundir))
        self.passed_over: list[str] = []
        for path in waiting(self._rundir, self._ledger.approvals):
            try:
                self._ledger.apply({"event": "approved", **asdict(read_approval(path))})
            except ConfigError as error:
                self.passed_over.append(str(error))
        if self.campaign.header.budget is None:
            remedy = "Nothing is ever held; `budget: {node_hours: …}` in the file would set a limit."
            raise ConfigError("the campaign has no budget", str(self.campaign.path), remedy)
        self._budget = self.campaign.header.budget

    @property
    def total(self) -> float:
        """Node-hours that the campaign may use."""
        return budget.approved(self._budget, self._ledger) or 0.0

    @property
    def node_hours(self) -> float:
        """Node-hours that are used or reserved."""
        return self._ledger.node_hours

    @property
    def held(self) -> list[Held]:
        """Stages that wait for approval, in the order in which they can run."""
        keys = [each.key for each in self.campaign.instances() if self._ledger.stage(each.key).state == "held"]
        return [each for each in map(self._held, keys) if not self._fits(each)]

    def approve(self, held: Held) -> None:
        """Let a stage go on to its end."""
        self._leave(held.key, held.node_hours)

    def raise_to(self, total: float, stage: str | None) -> None:
        """Raise the total; with a stage, this stage alone may use what is added.

        Raises:
            ConfigError: It is no raise, or too small for the stage.
        """
        if not self.total < total:
            what = f"{total:g} is not more than the {self.total:g} node-hours approved now"
            raise ConfigError(what, "--node-hours", f"{self.node_hours:.4g} are used or reserved; give a larger total.")
        if total > (most := self.campaign.site.nodes * _HOURS):
            what = f"{total:g} is more than the {most:,} node-hours that all of {self.campaign.site.name} has in a year"
            raise ConfigError(what, "--node-hours", "Give what the campaign may really use.")
        if stage is None:
            self._leave(None, total - sum(each.allowance for each in self._ledger.stages.values()))
            return
        held = self.held_of(stage)
        if len(held) > 1:
            names = ", ".join(each.key for each in held)
            raise ConfigError(f"{len(held)} of stage '{stage}' are held", "--node-hours", f"Name one of them: {names}.")
        least = self.total + held[0].job_node_hours - budget.room(self._budget, self._ledger, held[0].key)
        if total < least:
            raise ConfigError(f"{total:g} leaves '{held[0].key}' held", "--node-hours", f"Its next job needs {least:g} in all.")
        self._leave(held[0].key, total - self.total)

    def held_of(self, stage: str) -> list[Held]:
        """Return what is held of a stage: itself, or some of those that it is fanned out into.

        Raises:
            ConfigError: Nothing is.
        """
        held, keys = self.held, keys_of(self.campaign, stage, "approve")
        found = [each for each in held if each.key in keys]
        if not found:
            others = f"Held: {', '.join(each.key for each in held)}." if held else "Nothing is held."
            remedy = f"{others} `--node-hours` raises in advance what all stages may use together."
            raise ConfigError(f"stage '{stage}' waits for no approval", str(self.campaign.path), remedy)
        return found

    def _held(self, key: str) -> Held:
        entry = self._ledger.stage(key)
        spec = next(each.spec for each in self.campaign.instances() if each.key == key)
        jobs, cost = budget.rest_of_chain(entry, spec)
        return Held(key, jobs, budget.link_cost(spec), cost - (entry.allowance - entry.charged))

    def _fits(self, held: Held) -> bool:
        return budget.fits(self._budget, self._ledger, held.key, held.job_node_hours)

    def _leave(self, stage: str | None, node_hours: float) -> None:
        approval = leave(self._rundir, stage, node_hours)
        self._ledger.apply({"event": "approved", **asdict(approval)})
