"""A facility as data: scheduler, launcher, node, limits, paths, periods; with the user's overlay merged in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, field_validator

import workflow
from model.registry import require
from model.specs import Strict
from workflow.document import read_document
from workflow.errors import ConfigError, SiteError
from workflow.validation import Fault, validate


class Scheduler(Strict):
    """The batch system and how gently to ask it."""

    kind: str = Field(description="Name of a module in `workflow/batch`.")
    options: dict[str, Any] = Field({}, description="What that module needs to know beside the rest.")
    poll_s: float = Field(
        60.0, gt=0, description="Seconds between two queries for all jobs, which all drivers of a user on a login node share."
    )
    command_timeout_s: float = Field(60.0, gt=0, description="Seconds after which a scheduler command counts as unanswered.")
    unknown_window_s: float = Field(
        120.0, ge=0, description="Seconds to search for an unknown submission before it counts as absent."
    )
    absence_window_s: float = Field(120.0, ge=0, description="Seconds between two absences that together prove one.")


class Periods(Strict):
    """Heartbeats and times to live."""

    heartbeat_s: float = Field(10.0, gt=0, description="Seconds between two counts of a heartbeat.")
    ttl_s: float = Field(60.0, gt=0, description="Seconds of a standing count after which its writer is taken for dead.")
    stop_margin_s: float = Field(300.0, ge=0, description="Seconds before an allocation's end at which tasks must checkpoint.")
    stalled_s: float = Field(1800.0, gt=0, description="Seconds without a step after which a task counts as stalled.")
    kill_after_s: float = Field(60.0, gt=0, description="Seconds from asking a task to stop to killing it.")

    def margin_s(self, walltime_s: float) -> float:
        """Return the stop margin of a job of this length, s; a short one keeps half of its time to work in."""
        return min(self.stop_margin_s, walltime_s / 2)

    def working_s(self, walltime_s: float) -> float:
        """Return the seconds from the start of a job of this length to the moment at which its tasks are asked to stop."""
        return walltime_s - self.margin_s(walltime_s)


def _cores(part: str) -> range:
    """Return the cores of `4-7` or `4`."""
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def core_set(text: str) -> set[int]:
    """Return the cores of a list such as `4-7,16`."""
    return {core for part in text.split(",") for core in _cores(part)}


class Node(Strict):
    """One node."""

    devices: int = Field(ge=1, description="GPUs as the launcher counts them, or CPU ranks.")
    cores: int = Field(ge=1, description="CPU cores that ranks may use.")
    device_memory_gb: float = Field(gt=0, description="Memory of one device, GB.")
    device_gflop_per_s: float | None = Field(
        None,
        gt=0,
        description="Matrix arithmetic that a device sustains in training, GFLOP/s, by which `campaign check` and searches judge "
        "how long a step takes; none: they do not.",
    )
    memory_gb: float | None = Field(None, gt=0, description="Memory of the node that a user may use, GB.")
    local: str = Field(description="Node-local folder; {user}, {job} and {node} are filled in.")
    local_gb: float | None = Field(
        None, gt=0, description="Room in the node-local folder, GB; data beyond it are read where they lie."
    )
    broadcast_mb: float | None = Field(
        None,
        ge=0,
        description="Files of so many MB and more are read once and sent to all nodes, by the launcher or MPI; none: no file.",
    )
    backend: str = Field("gloo", description="torch.distributed backend.")
    address_suffix: str = Field("", description="What to add to a node's name for its address on the fast network.")
    bind: tuple[str, ...] = Field((), description="CPU cores of each rank of a full node, in local order, such as `1-8`.")

    def binding(self, ranks: int) -> tuple[str, ...]:
        """Share the core lists of `bind` out among the ranks of a node, neighbours together; empty: the launcher's own choice."""
        if not self.bind or ranks > len(self.bind):
            return ()
        count = len(self.bind)
        return tuple(",".join(self.bind[count * i // ranks : count * (i + 1) // ranks]) for i in range(ranks))

    def cores_of(self, ranks: int) -> int:
        """Return how many CPU cores each of so many ranks of a node has: those it is bound to, or its even share."""
        bound = [len(core_set(each)) for each in self.binding(ranks)]
        return min(bound, default=max(1, self.cores // ranks))

    @field_validator("bind")
    @classmethod
    def _has_cores(cls, lists: tuple[str, ...]) -> tuple[str, ...]:
        for each in lists:
            if not all(re.fullmatch(r"\d+(-\d+)?", part) and _cores(part) for part in each.split(",")):
                raise ValueError(f"'{each}' is no list of cores such as 1-8 or 1-4,9-12")
        return lists

    @field_validator("local")
    @classmethod
    def _has_known_braces(cls, text: str) -> str:
        if unknown := set(re.findall(r"{([^{}]*)}", text)) - {"user", "job", "node"}:
            raise ValueError(f"nothing is known to fill in for {{{unknown.pop()}}}")
        return text


class Queue(Strict):
    """One queue, partition or size bin."""

    name: str = Field(description="What people call it.")
    min_nodes: int = Field(1, ge=1, description="Smallest job.")
    max_nodes: int = Field(ge=1, description="Largest job.")
    min_walltime_h: float = Field(0.0, ge=0, description="Shortest job, hours.")
    max_walltime_h: float = Field(gt=0, description="Longest job, hours.")
    options: dict[str, Any] = Field({}, description="What the batch system calls it, in the words of its module.")
    asked_for: bool = Field(False, description="Only for stages that name it in `queue`; it is never chosen for one.")
    chains: bool = Field(True, description="Whether jobs may wait in it for one another.")
    wait_h: float | None = Field(
        None, ge=0, description="Hours that half of the jobs wait at most, for `campaign simulate`; none: it is not known."
    )
    source: str = Field("", description="Where the facility says so.")


class Limit(Strict):
    """How many jobs a facility looks at."""

    queues: tuple[str, ...] = Field((), description="Names of the queues that share it; empty: all.")
    per: Literal["user", "project"] = Field("user", description="Whose jobs are counted together.")
    running: int | None = Field(None, ge=1, description="Most jobs that run at once.")
    eligible: int | None = Field(None, ge=1, description="Most waiting jobs that gain priority at once; others wait behind them.")
    submitted: int | None = Field(None, ge=1, description="Most jobs in any state; one more is refused.")
    source: str = Field("", description="Where the facility says so.")


class Site(Strict):
    """A facility."""

    name: str = Field(description="Name of the site file.")
    description: str = Field(description="One line for `campaign sites list`.")
    scheduler: Scheduler
    launcher: str = Field(description="Name of a launcher in `workflow/allocation/launch.py`.")
    launcher_options: tuple[str, ...] = Field((), description="Further options of every call of the launcher, such as bindings.")
    nodes: int = Field(ge=1, description="Nodes of the machine.")
    node: Node
    queues: tuple[Queue, ...] = Field(description="Queues in the order of preference.")
    limits: tuple[Limit, ...] = Field((), description="How many jobs may wait and run.")
    periods: Periods = Periods()
    account: str | None = Field(None, description="Project to charge; comes from the user's overlay.")
    paths: dict[str, str] = Field({}, description="Names usable in braces in a campaign's paths, such as {data}.")
    environment: dict[str, str] = Field(
        {}, description="Environment variables of every task; {user}, {job} and {local}, the node-local folder, are filled in."
    )
    environment_across: dict[str, str] = Field({}, description="Further ones of tasks on more than one node.")
    shell: str = Field("/bin/sh", description="Shell of a batch script.")
    setup: tuple[str, ...] = Field((), description="Shell lines at the head of a batch script.")
    archive: str = Field(
        "", description="Packed Python environment of the tasks, as `campaign env build` writes it; it is unpacked on every node."
    )
    sources: dict[str, str] = Field(
        {},
        description="Where a figure comes from, by its dotted key or the beginning of it; of a queue, `queues.NAME`; of a limit, "
        "`limits.NAME+NAME` by its queues.",
    )
    unverified: dict[str, str] = Field(
        {}, description="Figures that no manual at hand confirms, by dotted key, and how to find out; see `campaign sites test`."
    )


def site_names() -> list[str]:
    """List the sites that ship and those of the folder `CAMPAIGN_SITES`."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})


def load_site(name: str) -> Site:
    """Read a site by name, with the user's overlay merged in.

    `CAMPAIGN_SITES` names a folder of site files that come first; the overlay is
    `~/.config/campaign/sites/<name>.yaml`.

    Raises:
        SiteError: No such site, or its file breaks the types.
    """
    try:
        require(name, site_names(), "site", "site")
    except Exception as error:
        raise SiteError(f"no site '{name}'", "site", getattr(error, "remedy", "")) from error
    path = next(f / f"{name}.yaml" for f in _folders() if (f / f"{name}.yaml").is_file())
    fields = _read(path)
    overlay = overlay_path(name)
    if overlay.is_file():
        fields = merge(fields, _read(overlay, may_be_empty=True))
    site, faults = validate(Site, {**fields, "name": name})
    if fields.get("name", name) != name:  # it names its file, its overlay and what a campaign began on
        faults.append(Fault(f"this is site '{name}', not '{fields['name']}'", ("name",), "Take `name` out; the file names it."))
    if faults:
        first, others = faults[0], len(faults) - 1
        where = f"{path} (with {overlay})" if overlay.is_file() else str(path)
        more = f" {others} more like it." if others else ""
        raise SiteError(first.what, f"{where}: {'.'.join(first.key)}", f"{first.remedy}{more}")
    return cast(Site, site)


def overlay_path(name: str) -> Path:
    """Return the file of this user's own values for a site."""
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    return home / "campaign" / "sites" / f"{name}.yaml"


def overlay_told(name: str) -> str:
    """Return that file as a person would type it."""
    path = overlay_path(name)
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` in place, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def packaged(folder: str) -> Path:
    """Return a folder of packaged data: inside the installed package, or beside it in a checkout."""
    inside = Path(workflow.__file__).parent / folder
    return inside if inside.is_dir() else Path(workflow.__file__).parent.parent / folder


def _folders() -> list[Path]:
    own = os.environ.get("CAMPAIGN_SITES")
    return ([Path(own)] if own else []) + [packaged("sites")]


def _read(path: Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    try:
        return read_document(path, "Write the site file.", may_be_empty=may_be_empty).fields
    except ConfigError as error:
        raise SiteError(error.what, error.where, error.remedy) from error
