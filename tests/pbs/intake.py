"""What the server makes of a submission: the job it asks for, or an exit code of `qsub` and its words."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pbs.settings import NCPUS, NODES, QUEUES, ROUTE, SERVER, seconds
from workflow.simulation.job import Ask

_RESOURCES = ("filesystems", "place", "select", "walltime")
_CHUNK = re.compile(r"(\d+)((?::\w+=\w+)*)")
_FIXED = {"system": "aurora"}


class Rejected(Exception):  # noqa: N818 it is an answer, not a fault
    """A submission is not taken.

    Attributes:
        code: Exit code of `qsub`.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def job_of(request: dict[str, Any], session_s: float) -> Ask:
    """Return the job that a submission asks for; in the routing queue it cannot run, but only where it is sent from there.

    Raises:
        Rejected: It is not taken.
    """
    given = request["resources"]
    if unknown := sorted(set(given) - set(_RESOURCES)):
        raise Rejected(187, f"Unknown resource Resource_List.{unknown[0]}")
    _require(request)
    walltime_s = seconds(given["walltime"])
    if math.isnan(walltime_s):
        raise Rejected(166, "Illegal attribute or resource value Resource_List.walltime")
    nodes, schedselect, impossible = _chunks(given.get("select", "1"))
    name = request.get("queue", ROUTE)
    _check_queue(name, nodes, walltime_s)
    waits_for = _waits_for(request.get("depend", ""))
    resources = {
        "filesystems": given["filesystems"],
        "ncpus": NCPUS * nodes,
        "nodect": nodes,
        "place": given.get("place", "scatter"),
        "select": given.get("select", "1"),
        "walltime": f"{int(walltime_s) // 3600:02d}:{int(walltime_s) // 60 % 60:02d}:{int(walltime_s) % 60:02d}",
    }
    facts = {**_facts(request, name), "resources": resources, "schedselect": schedselect, "impossible": impossible}
    facts |= {"session_s": session_s, "all_well": "afterok" in request.get("depend", "")}
    held = "hold" in request
    return Ask(request["name"], nodes, walltime_s, name, waits_for, held, facts, impossible=name == ROUTE or bool(impossible))


def destination(nodes: int, walltime_s: float) -> str | None:
    """Return where the routing queue sends a job; None where no destination takes it."""
    return next((q.name for q in QUEUES.values() if q.routed and q.takes(nodes, walltime_s)), None)


def _require(request: dict[str, Any]) -> None:
    """Check what a hook of the site makes mandatory."""
    for name in ("filesystems", "walltime"):
        if name not in request["resources"]:
            raise Rejected(32, f"Resource: {name} is required to be set.")
    if "account" not in request:
        raise Rejected(32, "Account_Name is required to be set.")


def _check_queue(name: str, nodes: int, walltime_s: float) -> None:
    if name == ROUTE:
        return
    queue = QUEUES.get(name)
    if queue is None:
        raise Rejected(170, "Unknown queue")
    if not queue.enabled:
        raise Rejected(173, "Queue is not enabled")
    if queue.routed:
        raise Rejected(174, "Access to queue is denied")
    if not queue.takes(nodes, walltime_s):
        raise Rejected(188, "Job violates queue and/or server resource limits")


def _chunks(select: str) -> tuple[int, str, str]:
    """Return the number of nodes, what the scheduler looks for, and why that can never be found, or nothing."""
    nodes, wanted, impossible = 0, [], ""
    for part in select.split("+"):
        found = _CHUNK.fullmatch(part)
        has = dict(each.split("=") for each in found[2].split(":")[1:]) if found else {}
        if found is None or int(found[1]) == 0 or not has.get("ncpus", "1").isdigit():
            raise Rejected(166, "Illegal attribute or resource value Resource_List.select")
        nodes += int(found[1])
        for name, value in has.items():
            if name in _FIXED and value != _FIXED[name]:
                impossible = f"Insufficient amount of resource: {name} ({value} != {_FIXED[name]})"
        if int(has.get("ncpus", NCPUS)) > NCPUS:
            impossible = f"Insufficient amount of resource: ncpus (R: {has['ncpus']} A: {NCPUS} T: {NCPUS})"
        wanted.append(part if "ncpus" in has else f"{part}:ncpus={NCPUS}")
    if nodes > len(NODES):
        impossible = "Not enough total nodes available"
    return nodes, "+".join(wanted), impossible


def _waits_for(depend: str) -> tuple[str, ...]:
    ids = depend.split(":")[1:]
    return tuple(each if "." in each else f"{each}.{SERVER}" for each in ids)


def _facts(request: dict[str, Any], queue: str) -> dict[str, Any]:
    folder, hold = Path(request["workdir"]), "u" if "hold" in request else "n"
    keep = request.get("keep", "n")
    variables = {**request["variables"], "PBS_O_QUEUE": queue, "PBS_O_HOST": SERVER}
    return {
        "script": request["script"],
        "account": request["account"],
        "hold": hold,
        "join": request.get("join", "n"),
        "keep": keep,
        "rerunable": "False" if request.get("rerunable") == "n" else "True",
        "depend": request.get("depend", "").removeprefix("depend="),
        "output": str(folder / request["output"]) if "output" in request else "",
        "error": str(folder / request["error"]) if "error" in request else "",
        "workdir": str(folder),
        "variables": variables,
        "arguments": request["arguments"],
    }
