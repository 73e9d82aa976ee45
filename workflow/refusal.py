"""Why a site would not take a stage's jobs, where it says so, and the `on:` block that would fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from workflow.queues import offered, takes
from workflow.site import Queue, Site
from workflow.site_facts import figures
from workflow.stages.base import StageSpec, walltime_text


@dataclass(frozen=True)
class Refusal:
    """Why a site would not take a stage's jobs.

    Attributes:
        key: The key of the stage that is too much: `nodes`, `walltime`, `spares`, `links`, `queue` or `trial`.
        rule: The site's rule beside what was asked.
        source: Where the site says so.
        fits: Values of the stage's keys that the site would take; empty where nothing would.
    """

    key: str
    rule: str
    source: str
    fits: dict[str, Any]

    def block(self, site: str) -> str:
        """Return the `on:` block that would fit, as a line of YAML."""
        text: str = yaml.safe_dump({site: self.fits}, default_flow_style=True, sort_keys=False, width=1000)
        return f"on: {text.strip()}"


def refusals(site: Site, nodes: int, spec: StageSpec) -> list[Refusal]:
    """Return why the site would not take a stage's jobs; none where it would.

    Args:
        site: The site.
        nodes: Nodes of one job, spares included.
        spec: The stage's keys, resolved for the site.
    """
    rule = (
        _queue_rule(site, spec)
        or _spares_rule(nodes, spec)
        or _machine_rule(site, nodes)
        or _size_rule(site, nodes, spec)
        or _length_rule(site, nodes, spec)
        or _chain_rule(site, nodes, spec)
        or _trial_rule(nodes, spec)
    )
    return [Refusal(*rule, _fitting(site, nodes, spec))] if rule else []


_MARKS = {"unverified": " (unverified)", "FAILED": " (found otherwise by your test)"}
Rule = tuple[str, str, str] | None
"""Key, rule and source."""


def _queue_rule(site: Site, spec: StageSpec) -> Rule:
    if spec.queue is None or offered(site, spec.queue):
        return None
    return "queue", f"no queue '{spec.queue}' ({', '.join(each.name for each in site.queues)})", _said(site)


def _spares_rule(nodes: int, spec: StageSpec) -> Rule:
    if spec.spares < nodes:
        return None
    return "spares", f"{spec.spares} spare of {_nodes(nodes)} leave none to work on", "spares are part of a job's nodes"


def _machine_rule(site: Site, nodes: int) -> Rule:
    if nodes <= site.nodes:
        return None
    return "nodes", f"{_nodes(nodes)} asked, {site.name} has {site.nodes}", _said(site, "nodes")


def _size_rule(site: Site, nodes: int, spec: StageSpec) -> Rule:
    queues = offered(site, spec.queue)
    if _sized(queues, nodes):
        return None
    sizes = ", ".join(f"{each.name} {each.min_nodes}-{each.max_nodes}" for each in queues)
    asked_for = [each for each in _sized(site.queues, nodes) if each.asked_for and spec.queue is None]
    named = "; ".join(f"`queue: {each.name}` does, for {walltime_text(each.max_walltime_h * 3600)}" for each in asked_for)
    rule = f"no queue takes {_nodes(nodes)} ({sizes})" + (f"; {named}" if named else "")
    return "nodes", rule, _said(site, *(_key(each) for each in queues))


def _length_rule(site: Site, nodes: int, spec: StageSpec) -> Rule:
    sized = _sized(offered(site, spec.queue), nodes)
    if any(takes(each, nodes, spec.walltime_s) for each in sized):
        return None
    longest = max(sized, key=lambda each: each.max_walltime_h)
    shortest = min(sized, key=lambda each: each.min_walltime_h)
    asked = f"{walltime_text(spec.walltime_s)} asked"
    if spec.walltime_s > longest.max_walltime_h * 3600:
        most = walltime_text(longest.max_walltime_h * 3600)
        rule = f"{asked}, the longest job of {_nodes(nodes)} is {most} (queue {longest.name})"
        return "walltime", rule, _said(site, _key(longest))
    least = walltime_text(_least_s(shortest))
    rule = f"{asked}, the shortest job of {_nodes(nodes)} is {least} (queue {shortest.name})"
    return "walltime", rule, _said(site, _key(shortest))


def _chain_rule(site: Site, nodes: int, spec: StageSpec) -> Rule:
    queue = next(each for each in offered(site, spec.queue) if takes(each, nodes, spec.walltime_s))
    if queue.chains or spec.links == 1:
        return None
    return "links", f"a chain of {spec.links} jobs asked, queue {queue.name} takes no chains", _said(site, _key(queue))


def _trial_rule(nodes: int, spec: StageSpec) -> Rule:
    trial, free = trial_nodes(spec), nodes - spec.spares
    if trial is None or trial <= free:
        return None
    return "trial", f"a trial takes {_nodes(trial)}, the job has {free} beside its spares", "trials run inside one job"


def trial_nodes(spec: StageSpec) -> int | None:
    """Return the nodes of one trial; None for a stage that has no trials."""
    trial = getattr(spec, "trial", None)
    return None if trial is None else int(trial.nodes)


def _fitting(site: Site, nodes: int, spec: StageSpec) -> dict[str, Any]:
    """Return the keys to change for the nearest job that a queue takes, with links enough for the same node-hours."""
    queues = offered(site, spec.queue) or offered(site, None)
    offers = [_offer(queue, site, nodes, spec) for queue in queues if queue.min_nodes <= site.nodes]
    if not offers:
        return {}
    _, count, walltime_s, links = min(offers)
    spares = min(spec.spares, count - 1)
    asked = {"nodes": nodes, "walltime": walltime_text(spec.walltime_s), "links": spec.links, "spares": spec.spares}
    given: dict[str, Any] = {"nodes": count, "walltime": walltime_text(walltime_s), "links": links, "spares": spares}
    changed = {key: value for key, value in given.items() if value != asked[key]}
    trial = trial_nodes(spec)
    if trial is not None and trial > count - spares:
        changed["trial"] = {"nodes": count - spares}
    if spec.queue is not None and not offered(site, spec.queue):
        changed["queue"] = None
    return changed


def _offer(queue: Queue, site: Site, nodes: int, spec: StageSpec) -> tuple[tuple[float, int], int, float, int]:
    """Return (distance from what was asked, nodes, walltime, links) of the nearest job of a queue; small is near."""
    count = min(max(nodes, queue.min_nodes), queue.max_nodes, site.nodes)
    walltime_s = min(max(spec.walltime_s, _least_s(queue)), queue.max_walltime_h * 3600)
    links = max(spec.links, math.ceil(spec.links * nodes * spec.walltime_s / (count * walltime_s)))
    return (abs(math.log(count / nodes)), links), count, walltime_s, links if queue.chains else 1


def _least_s(queue: Queue) -> float:
    return float(math.ceil(queue.min_walltime_h * 60) * 60)


def _sized(queues: tuple[Queue, ...], nodes: int) -> list[Queue]:
    return [each for each in queues if each.min_nodes <= nodes <= each.max_nodes]


def _key(queue: Queue) -> str:
    return f"queues.{queue.name}"


def _said(site: Site, *keys: str) -> str:
    """Return who says these figures of a site, with a mark on what no manual at hand confirms."""
    found = {each.key: each for each in figures(site)}
    told = [found[key] for key in keys if key in found]
    own = f"site file of {site.name}"
    return "; ".join(dict.fromkeys(f"{each.source or own}{_MARKS.get(each.mark, '')}" for each in told)) or own


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"
