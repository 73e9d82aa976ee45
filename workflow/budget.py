"""How many node-hours a stage may still reserve, out of the file's budget and what a person has approved since; pure.

All stages share one amount: the file's budget, or what it was raised to. A stage that was approved has an allowance of its own
beside it, which no other stage can use up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workflow.chain import most_links
from workflow.ledger import Ledger, StageEntry

if TYPE_CHECKING:  # `campaign status` asks for the total only, and answers without pydantic
    from workflow.stages.base import StageSpec

_ROUNDING = 1e-9


class Budget(Protocol):
    """Whatever says how many node-hours a campaign may use."""

    @property
    def node_hours(self) -> float:
        """Node-hours of all jobs together."""


@dataclass(frozen=True)
class NodeHours:
    """A budget as a plain number of node-hours."""

    node_hours: float


def approved(budget: Budget | None, ledger: Ledger) -> float | None:
    """Return the node-hours that the whole campaign may use; None where nothing limits it."""
    return None if budget is None else _shared(budget, ledger) + sum(each.allowance for each in ledger.stages.values())


def fits(budget: Budget | None, ledger: Ledger, key: str, node_hours: float) -> bool:
    """Say whether a stage may reserve so many node-hours more."""
    return budget is None or node_hours <= room(budget, ledger, key) + _ROUNDING


def room(budget: Budget, ledger: Ledger, key: str) -> float:
    """Return the node-hours that a stage may still reserve."""
    stage = ledger.stage(key)
    charged = sum(each.charged for each in ledger.stages.values())
    return max(0.0, _shared(budget, ledger) + charged - ledger.node_hours) + stage.allowance - stage.charged


def rest_of_chain(stage: StageEntry, spec: StageSpec) -> tuple[int, float]:
    """Return how many jobs a stage may still need, and their node-hours, when none is repeated."""
    jobs = max(1, most_links(stage, spec) - stage.links_ended)
    return jobs, jobs * link_cost(spec)


def link_cost(spec: StageSpec) -> float:
    """Return the node-hours of one job of a stage at full walltime."""
    return (spec.nodes or 1) * spec.walltime_s / 3600.0


def _shared(budget: Budget, ledger: Ledger) -> float:
    return max(budget.node_hours, ledger.raised_to)
