"""Find out whether a site is as its file says: two nodes, every rank, the network, the node-local path, the timer."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from pydantic import Field

from model.config import ProbeConfig
from model.outcome import Cause, Status, read_json, write_json
from workflow.queues import queue_for
from workflow.site import Node, Periods, Site, core_set
from workflow.stages._recipe import Problem, configuration
from workflow.stages.base import Allocation, Stage, StageResult, StageSpec, TaskResult

_MEGABYTES = 8
_EARLY_S = 5.0
_LATE_S = 120.0  # the scheduler's signal comes a minute after the timer, and may be late
_WARNED_S = 65.0  # by then a signal that is in time has come
_RECEIPT_S = 10.0  # kept for the receipt
_LOOK_S = 0.5
Check = dict[str, Any]
"""`name`, `ok`, `seen` in words, and `verifies`, keys of the site file that are right if it holds."""


class SiteTestSpec(StageSpec):
    """Keys of a stage of kind `site_test`."""

    wait: bool = Field(True, description="Wait for the end of the walltime, to see timer and signal at work.")


class Kind(Stage):
    """Probe an allocation with real tasks, and tell what held."""

    Spec = SiteTestSpec
    needs_data = False

    def problems(self, spec: SiteTestSpec, campaign: Any) -> list[Problem]:  # noqa: ARG002
        """Refuse fewer than two nodes, on which nothing crosses the network, and fans."""
        few = [("one node cannot show the network", "nodes", "Give two.")] if (spec.nodes or 1) - spec.spares < 2 else []
        each = [("a test of a site does not depend on a model", "each", "Take `each` away.")] if spec.each else []
        return few + each

    def calls(self, spec: SiteTestSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return the probe."""
        return [("probe", "probe", (spec.nodes or 1) - spec.spares)]

    def miniature(self, spec: SiteTestSpec) -> dict[str, Any]:  # noqa: ARG002
        """Return a test that does not wait for the end of the walltime."""
        return {"wait": False}

    def work(self, allocation: Allocation) -> StageResult:
        """Run every check; the stage is done when all have run, whatever they found."""
        spec = SiteTestSpec.model_validate(allocation.request.spec)
        checks = [_nodes(allocation), _broadcast(allocation)]
        probe = _task(allocation, "ranks", "report", local=True)
        checks += [_reported(allocation, probe, check) for check in (_world, _cores, _devices, _local, _collective)]
        checks += [_ends(allocation, exercise, probe) for exercise in ("exit", "killed")]
        if spec.wait:
            checks.append(timer := _timer(allocation))
            checks += _signal(allocation) if timer["ok"] else []
        table = allocation.folder.run / "site-test.json"
        write_json(table, checks)
        failed = [each["name"] for each in checks if not each["ok"]]
        message = f"not as the site file says: {', '.join(failed)}" if failed else "all is as the site file says"
        facts = {"site": allocation.request.site["name"], "checks": checks, "versions": _versions(probe)}
        return StageResult(Status.DONE, message=message, outputs=allocation.vouch("table", table), result=facts)


def _check(name: str, ok: bool, seen: str, *verifies: str) -> Check:
    return {"name": name, "ok": ok, "seen": seen, "verifies": list(verifies)}


def _task(allocation: Allocation, name: str, exercise: str, *, local: bool = False) -> TaskResult:
    fields = {"exercise": exercise, "local": allocation.local_folder() if local else None}
    config = configuration(ProbeConfig, allocation.request, fields)
    return allocation.task(name, "probe", config, nodes=allocation.num_nodes).result()


def _nodes(allocation: Allocation) -> Check:
    """Say whether all nodes answer; of the queues that shows only how the one that took the job is called."""
    request = allocation.request
    queue = queue_for(Site.model_validate(request.site), request.nodes, request.walltime_s, request.spec.get("queue")).name
    seen = f"{allocation.num_nodes} of {request.nodes} nodes answer; accepted by account and queue ({queue})"
    verifies = ("scheduler.options", "account", f"queues.{queue}.options", "shell")
    return _check("account, queue, nodes", allocation.num_nodes == request.nodes, seen, *verifies)


def _broadcast(allocation: Allocation) -> Check:
    file, least = allocation.folder.run / "broadcast.bin", allocation.request.site["node"]["broadcast_mb"]
    megabytes = max(_MEGABYTES, math.ceil(least or 0))
    file.write_bytes(os.urandom(megabytes * 10**6))
    began = time.monotonic()
    try:
        allocation.stage_in(allocation.vouch("broadcast", file)).result()
    except Exception as error:  # whatever it is, the table tells it
        return _check("broadcast", False, str(error), "node.local")
    seen = f"{megabytes} MB on every node in {time.monotonic() - began:.1f} s, right by digest"
    if least is None:
        return _check("broadcast", True, seen, "node.local")
    told = [read_json(path) or {} for path in allocation.folder.run.glob("staging/*/staged.json")]
    was_sent = any(each.get("broadcast_files") for each in told)
    how = "sent to all at once" if was_sent else "each node had to read it for itself (see job.log)"
    return _check("broadcast", was_sent, f"{seen}; {how}", "node.local", "node.broadcast_mb")


def _reported(allocation: Allocation, probe: TaskResult, check: Callable[[Allocation, list[dict[str, Any]]], Check]) -> Check:
    """Return a check of what the ranks told, or that they told nothing."""
    if probe.status is not Status.DONE or probe.outcome is None:
        return _check(check.__name__.strip("_"), False, f"the ranks told nothing: {probe.message} (see {probe.folder})")
    return check(allocation, probe.outcome.result["ranks"])


def _world(allocation: Allocation, ranks: list[dict[str, Any]]) -> Check:
    expected = allocation.num_nodes * allocation.devices_per_node
    nodes = {each["node"] for each in ranks}
    sizes = {each["world_size"] for each in ranks}
    ok = sizes == {expected} and len(ranks) == expected and len(nodes) == allocation.num_nodes
    seen = (
        f"{len(ranks)} ranks in a world of {'/'.join(map(str, sorted(sizes)))} on {len(nodes)} nodes; {expected} were asked for"
    )
    return _check("ranks", ok, seen, "launcher", "launcher_options", "node.devices")


def _cores(allocation: Allocation, ranks: list[dict[str, Any]]) -> Check:
    """Say whether each rank has the cores of its list, and shares none; where devices are CPUs of one machine it may."""
    node = Node.model_validate(allocation.request.site["node"])
    asked = node.cores_of(allocation.devices_per_node)
    shared = _shared([(each["node"], core) for each in ranks for core in each["cores"]])
    least = min(len(each["cores"]) for each in ranks)
    seen = f"at least {least} cores a rank, {asked} were asked for; " + ("ranks share cores" if shared else "no rank shares one")
    if node.backend == "gloo":
        return _check("cores", least >= asked, seen, "node.cores")
    lists = node.binding(allocation.devices_per_node)
    astray = [each for each in ranks if lists and set(each["cores"]) != core_set(lists[each["local_rank"]])]
    if astray:
        rank = astray[0]
        got = ",".join(map(str, rank["cores"]))
        seen += f"; {len(astray)} ranks not on their list, first rank {rank['rank']}: {got}, not {lists[rank['local_rank']]}"
    return _check("cores", least >= asked and not shared and not astray, seen, "node.cores", *(["node.bind"] if lists else []))


def _devices(allocation: Allocation, ranks: list[dict[str, Any]]) -> Check:
    own = allocation.request.site["node"]
    if own["backend"] == "gloo":
        return _check("devices", True, "CPUs: none to bind", "node.backend")
    shared = _shared([(each["node"], each["device_id"]) for each in ranks])
    memory = min(each["device_memory_gb"] for each in ranks)
    names = ", ".join(sorted({each["device"] for each in ranks}))
    seen = f"{names}, {memory} GB; " + ("ranks share devices" if shared else "one device for each rank")
    ok = not shared and memory >= 0.95 * own["device_memory_gb"]
    return _check("devices", ok, seen, "node.devices", "node.device_memory_gb", "node.backend", "launcher_options")


def _local(allocation: Allocation, ranks: list[dict[str, Any]]) -> Check:
    faults = [each.get("local_fault", "read back wrongly") for each in ranks if not each.get("local_ok")]
    if faults:
        return _check("node-local path", False, faults[0], "node.local")
    room, speed = min(each["local_free_gb"] for each in ranks), min(each["local_mb_per_s"] for each in ranks)
    claimed = allocation.request.site["node"]["local_gb"]
    seen = f"{room:,.0f} GB free, {speed:,} MB/s a rank" + (f"; the site file says {claimed:g} GB" if claimed else "")
    return _check("node-local path", claimed is None or room >= claimed, seen, "node.local", "node.local_gb")


def _collective(allocation: Allocation, ranks: list[dict[str, Any]]) -> Check:
    """Say whether ranks on both nodes can sum; over which network only the speed tells, so no variable of it is verified."""
    speed = ranks[0].get("reduce_gb_per_s")
    backend = allocation.request.site["node"]["backend"]
    seen = f"{backend}: the sum of all ranks is right" + (f", {speed} GB/s" if speed else "")
    seen += "" if backend == "gloo" else "; much less than the network's speed: it fell back to sockets"
    return _check("collective library", True, seen, "node.backend", "node.address_suffix")


def _ends(allocation: Allocation, exercise: str, probe: TaskResult) -> Check:
    """Say whether the launcher reports a rank that ends badly, and whether it tells a killed one from one that exits.

    Some do not: they end the other ranks with TERM, and their code is the higher one. Both are retried all the
    same; a rank that the kernel killed for want of memory then counts as the launcher's fault. Nothing is shown by a
    launcher that starts no rank at all.
    """
    if probe.status is not Status.DONE:
        return _check(f"return code ({exercise})", False, f"no rank has begun: {probe.message}", "launcher")
    result = _task(allocation, exercise, exercise)
    what = {"exit": "a rank that exits with 3", "killed": "a rank killed by signal 9"}[exercise]
    own_fault = result.cause in (Cause.BUG, Cause.BAD_CONFIG, Cause.DIVERGED)
    ok = result.status is Status.FAILED and not own_fault and (exercise == "killed" or result.cause is Cause.LAUNCHER)
    seen = f"{what} ends the call in {result.seconds:.0f} s: {result.status}, cause {result.cause or 'none'}"
    seen += "; not told from one that exits" if ok and exercise == "killed" and result.cause is Cause.LAUNCHER else ""
    return _check(f"return code ({exercise})", ok, seen, "launcher")


def _timer(allocation: Allocation) -> Check:
    """Let a task work until the walltime is near; it must be asked to stop, and stop in order, before the end."""
    left = allocation.time_left()
    began = time.monotonic()
    result = _task(allocation, "timer", "wait")
    waited = time.monotonic() - began
    ok = result.status is Status.PARTIAL and waited >= min(left, _EARLY_S) / 2
    seen = f"stopped in order after {waited:.0f} s, {left:.0f} s were left: {allocation.why_stopping()}"
    hint = "longer periods (stop_margin_s, kill_after_s) give a slow or loaded machine time"
    seen = seen if ok else f"{result.status}: {result.message}; {hint}"
    return _check("timer", ok, seen, "periods.stop_margin_s", "periods.kill_after_s")


def _signal(allocation: Allocation) -> list[Check]:
    """Wait for the signal that the scheduler was asked to send, after the agent's own timer.

    There is no check where none is asked for, or where it would come too near to the end for the receipt.
    """
    periods, began = Periods.model_validate(allocation.request.site["periods"]), time.monotonic()
    room = periods.margin_s(allocation.request.walltime_s) - _RECEIPT_S
    if allocation.warned() is None or room < _WARNED_S:
        return []
    while not (heard := bool(allocation.warned())) and time.monotonic() - began < min(_LATE_S, room):
        time.sleep(_LOOK_S)
    seconds = f"{time.monotonic() - began:.0f} s after the timer"
    return [_check("signal", heard, f"it came {seconds}" if heard else f"none came until {seconds}")]


def _shared(pairs: list[tuple[str, Any]]) -> bool:
    return len(set(pairs)) < len(pairs)


def _versions(probe: TaskResult) -> dict[str, str]:
    return dict(probe.outcome.versions) if probe.outcome else {}
