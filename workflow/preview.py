"""The batch script of each stage and the launcher calls inside it, as they would be, for people to read beforehand."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from workflow.allocation.launch import Placement, binding, launcher
from workflow.batch.scheduler import JobSpec, directives
from workflow.batch.script import script_text
from workflow.campaign import Campaign, Instance, stage_kind
from workflow.chain import token
from workflow.queues import queue_for
from workflow.rundir import RunDir
from workflow.site import Site

_HEAD = """# What the agent starts inside the job. hosts.txt names the nodes of a call, TASK is the folder of the task,
# {local} the node-local folder of the job; the batch script's own variables hold here too.

"""
_LONG = 60  # words of a call on virtual nodes, which names each


@dataclass(frozen=True)
class Preview:
    """One stage.

    Attributes:
        name: Name in the file.
        script: Its batch script; token and job id are only known later.
        calls: Its launcher calls, with the variables that are set for them; `hosts.txt` names the nodes of each.
    """

    name: str
    script: str
    calls: str


def previews(campaign: Campaign, without: Collection[str] = ()) -> list[Preview]:
    """Return every stage that has jobs; of those that `each` fans out, the first.

    Args:
        campaign: Resolved for its site.
        without: Names of stages to leave out, such as those that the site refuses.

    Raises:
        SiteError: The site would refuse a job, or the overlay lacks the account.
    """
    firsts = [each for each in campaign.instances() if each.number <= 1 and not stage_kind(each.spec.kind).on_login]
    return [_preview(campaign, each) for each in firsts if each.stage not in without]


def write_previews(campaign: Campaign, folder: Path) -> list[Path]:
    """Write `<stage>.sh` and `<stage>.calls` for every stage into a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for each in previews(campaign):
        for suffix, text in (("sh", each.script), ("calls", each.calls)):
            path = folder / f"{each.name.replace('/', '-')}.{suffix}"
            path.write_text(text)
            written.append(path)
    return written


def _preview(campaign: Campaign, instance: Instance) -> Preview:
    site, spec = campaign.site, instance.spec
    folder = RunDir(campaign.folder).attempt(instance.key, 1, 1)
    nodes, name = spec.nodes or 1, token("", instance.key, 1, 1)
    queue = queue_for(site, nodes, spec.walltime_s, spec.queue)
    job = JobSpec(name, folder.root, folder.script, folder.log, nodes, spec.walltime_s, queue.name)
    script = script_text(site, folder, name, directives=directives(site, job))
    return Preview(instance.stage, script, _HEAD + "".join(_calls(campaign, instance, folder.tasks)))


def _calls(campaign: Campaign, instance: Instance, tasks: Path) -> Iterator[str]:
    site, spec = campaign.site, instance.spec
    ways = {"on every node: are they there?": ("true", (spec.nodes or 1), 1)}
    for name, command, nodes in stage_kind(spec.kind).calls(spec, campaign):
        ways[f"{name}: {nodes} node{'s' * (nodes != 1)}"] = (f"python -m model {command} config.yaml", nodes, site.node.devices)
    for title, (command, nodes, ranks) in ways.items():
        yield f"# {title}\n{_variables(site, nodes)}{_call(site, command, nodes, ranks, tasks)}\n\n"


def _call(site: Site, command: str, nodes: int, ranks: int, tasks: Path) -> str:
    gpus = 0 if site.node.backend == "gloo" else max(1, site.node.devices // ranks)
    names = tuple(f"node{number}" for number in range(1, nodes + 1))
    cores = max(1, site.node.cores // ranks)
    bound = binding(site.node.bind, ranks)
    placement = Placement(names, ranks, cores, gpus, tasks / "TASK", site.launcher_options, bound)
    words = launcher(site.launcher).line(placement, command.split())
    return shlex.join(words) if len(words) < _LONG else f"{shlex.join(words[:_LONG])} ..."


def _variables(site: Site, nodes: int) -> str:
    """Return what is set beside the batch script's own variables: those that name the job, and those of several nodes."""
    filled = {name: value for name, value in site.environment.items() if "{" in value}
    across = site.environment_across if nodes > 1 else {}
    return "".join(f"{name}={shlex.quote(value)} \\\n" for name, value in {**filled, **across}.items())
