"""What node failures cost the reference campaign, simulated: ours beside the policy to rerun a stage that a failure has hit."""

from __future__ import annotations

from pathlib import Path

from bench import timing
from workflow.draft import load_campaign
from workflow.simulation.assumptions import Assumptions, Policy
from workflow.simulation.summary import Summary, simulate

FILE = Path(__file__).parent.parent / "campaigns" / "sc26.yaml"
SITE = "frontier"
RATES = (1, 5, 20)
HORIZON_DAYS = 120.0
"""Where rerunning stages gives up: at 20 failures a day a chain of three jobs of 2,056 nodes hardly ever survives."""
_NAMES: dict[Policy, str] = {"ours": "", "rerun-stage": "_rerun_stage"}


def lost_shares(runs: int, rates: tuple[int, ...] = RATES) -> timing.Figures:
    """Return the share of node-hours lost by failures a day and policy, the median over the runs; same seeds for both."""
    campaign = load_campaign(FILE, SITE)
    figures: timing.Figures = {}
    rows = [["failures a day, policy", "lost %", "utilisation %", "node-hours", "days", "runs that end"]]
    began = timing.cpu_s()
    for rate in rates:
        for policy, suffix in _NAMES.items():
            assumed = Assumptions(policy=policy, failures_per_day=float(rate), horizon_days=HORIZON_DAYS)
            summary = simulate(campaign, assumed, 0, runs)
            figures[f"lost_node_hours_share_{rate}_failures_a_day{suffix}"] = summary.totals["lost_share"].median
            rows.append(_row(f"{rate}, {policy}", summary))
    timing.say_table(f"{FILE.stem} on {SITE}, simulated {runs} times; given up after {HORIZON_DAYS:g} days", rows)
    timing.say(f"  {timing.cpu_s() - began:.1f} CPU s; what is assumed: campaign simulate {FILE.name}")
    return figures


def _row(name: str, summary: Summary) -> list[str]:
    totals, runs = summary.totals, len(summary.histories)
    shares = (f"{100 * totals[each].median:.2f}" for each in ("lost_share", "utilisation"))
    ends = summary.states.get("done", 0)
    days = f"{totals['ends_h'].median / 24:.1f}" if 2 * ends > runs else "none"
    return [name, *shares, f"{totals['used'].median:,.0f}", days, f"{ends} of {runs}"]
