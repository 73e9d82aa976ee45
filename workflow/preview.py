"""The batch script of each stage and the launcher calls inside it, as they would be, for people to read beforehand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workflow.allocation import staging
from workflow.allocation.launch import Setting, setting_of
from workflow.allocation.sending import mpi_command
from workflow.allocation.unpacking import environment_folder
from workflow.batch.scheduler import JobSpec, directives
from workflow.batch.script import script_text
from workflow.campaign import Campaign, Instance, stage_kind
from workflow.chain import token
from workflow.queues import queue_for
from workflow.rundir import RunDir
from workflow.targets import folder_in

_HEAD = """# What the agent starts inside the job. hosts.txt names the nodes of a call, TASK is the folder of the task,
# {local} the node-local folder of the job; the batch script's own variables hold here too.

"""
_LONG = 60  # words of a call on virtual nodes, which names each
_LOCAL = "{local}"
_COPY = "on every node: copy and verify what is read there"
_ON = "\\\n"


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
    folder = folder_in(folder, "--scripts")
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
    """Yield every call of the job, made as the agent makes it, under a line that says what it is for."""
    site, spec, kind = campaign.site, instance.spec, stage_kind(instance.spec.kind)
    setting, nodes = setting_of(site, _LOCAL, "{job}"), spec.nodes or 1
    yield _call(setting, "on every node: are they there?", ("true",), nodes, tasks, beside=True)
    if site.archive or kind.reads(spec, campaign):
        yield from _staging(setting, nodes, tasks, bool(site.archive))
    for name, command, count in kind.calls(spec, campaign):
        title = f"{name}: {count} node{'s' * (count != 1)}"
        words = (sys.executable, "-m", "model", command, "config.yaml")
        extra = {"OMP_NUM_THREADS": str(site.node.cores_of(site.node.devices))}
        if site.archive:
            extra["PYTHONPATH"] = f"{environment_folder(_LOCAL)}:..."
        yield _call(setting, title, words, count, tasks, ranks=site.node.devices, extra=extra)


def _staging(setting: Setting, nodes: int, tasks: Path, packed: bool) -> Iterator[str]:
    """Yield how files come to the nodes, in the order of the agent's calls: see `workflow.allocation.staging.Staging`."""
    sending, least = setting.launcher.sending("FILE", f"{_LOCAL}/FILE"), setting.node.broadcast_mb
    command = (sys.executable, "-m", staging.__name__, "ORDER.json", "FOLDER")
    large = "each file of {:g} MB and more, {}"
    if least is not None and sending:
        yield _call(setting, "on every node: make the folders of large files", command, nodes, tasks, beside=True)
        yield f"# {large.format(least, 'to all nodes at once')}\n{shlex.join(sending)}\n\n"
    elif least is not None:
        title = large.format(least, "read once and sent to all nodes over MPI, a rank on each")
        yield _call(setting, title, mpi_command("ORDER.json", "FOLDER"), nodes, tasks, beside=True)
    title = "on every node: unpack the environment, copy and verify what is read there" if packed else _COPY
    yield _call(setting, title, command, nodes, tasks, beside=True)


def _call(
    setting: Setting,
    title: str,
    command: tuple[str, ...],
    nodes: int,
    tasks: Path,
    *,
    ranks: int = 1,
    extra: Mapping[str, str] | None = None,
    beside: bool = False,
) -> str:
    names = tuple(f"node{number}" for number in range(1, nodes + 1))
    placement = setting.placement(names, ranks, tasks / "TASK", beside=beside)
    words = setting.launcher.line(placement, command)
    call = shlex.join(words) if len(words) < _LONG else f"{shlex.join(words[:_LONG])} ..."
    variables = {**_variables(setting, names), **(extra or {})}
    return f"# {title}\n{''.join(f'{name}={shlex.quote(value)} {_ON}' for name, value in variables.items())}{call}\n\n"


def _variables(setting: Setting, nodes: tuple[str, ...]) -> dict[str, str]:
    """Return what is set beside the batch script's own variables: those that name the job, and those of several nodes."""
    found = setting.environment_on(nodes)
    of_job = {name: value for name, value in found.items() if _LOCAL in value and name != "PYTHONPATH"}
    return {**of_job, **(setting.across if len(nodes) > 1 else {})}
