"""One task from its start to its verdict, and what the verdict means for its nodes."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.outcome import Cause, Outcome, Status, read_outcome
from workflow.allocation.deadline import Deadline
from workflow.allocation.health import Probe
from workflow.allocation.judge import Ending, Stopped, Verdict, judge
from workflow.allocation.launch import Setting, start, write_command, write_hosts
from workflow.allocation.nodes import INFRASTRUCTURE, NodePool
from workflow.allocation.watch import PROGRESS_FILE, Watch
from workflow.errors import CampaignError
from workflow.launch import Launch
from workflow.site import Periods
from workflow.stages.base import TaskResult

logger = logging.getLogger(__name__)
Settle = Callable[[TaskResult], None]

_BY_HAND = "The call that the agent made, for running it again by hand, in an allocation that has the same nodes."


@dataclass(frozen=True)
class TaskLaunch(Launch):
    """One launcher call.

    Attributes:
        folder: Its folder, which stands already; also its working folder.
        argv: What each rank runs.
        nodes: Number of nodes.
        ranks_per_node: Ranks on each.
        environment: Variables beside those that all calls have.
        estimate_s: About how long it takes; 0 where that is unknown.
        by_hand: What `command.sh` runs instead of `argv`: a command without an owner, whose absence would end it.
    """

    folder: Path
    argv: tuple[str, ...]
    nodes: int = 1
    ranks_per_node: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    estimate_s: float = 0.0
    by_hand: tuple[str, ...] = ()


class TaskRunner:
    """Carry out tasks, each in the thread that calls `run`.

    Attributes:
        revoked: Set by the agent when the attempt has lost its right to have effect.
    """

    def __init__(self, setting: Setting, periods: Periods, pool: NodePool, deadline: Deadline, probe: Probe) -> None:
        self._setting, self._periods, self._pool, self._deadline, self._probe = setting, periods, pool, deadline, probe
        self.revoked = threading.Event()
        self._ended = threading.Event()

    def refusal(self, launch: TaskLaunch) -> str:
        """Return why a waiting task is not to be started any more, or nothing."""
        return self._deadline.refusal(launch.estimate_s)

    def end(self) -> None:
        """Kill all tasks at once."""
        self._ended.set()

    def run(self, launch: TaskLaunch, nodes: tuple[str, ...], settle: Settle) -> TaskResult:
        """Run a task to its end; return when none of its processes is left.

        Where they do not end whatever is done, `settle` gets the result and the call goes on waiting: the nodes
        are not free.
        """
        began = time.monotonic()
        before = kernel_oom_kills()
        process, ending = self._carry_out(launch, nodes)
        while self._is_worth_waiting(ending):
            if self._setting.readiness.wait(self._must_stop):
                process, ending = self._carry_out(launch, nodes)
            else:
                ending = replace(ending, stopped=Stopped.DEADLINE)
        code, ending = ending.code, replace(ending, oom_kills=kernel_oom_kills() - before)
        outcome = _outcome(launch.folder)
        verdict = self._account(launch, nodes, judge(ending, outcome))
        seconds = time.monotonic() - began
        result = TaskResult(launch.name, launch.folder, verdict.status, verdict.cause, verdict.message, outcome, nodes, seconds)
        if process and code is None:
            settle(result)
            process.wait()
        return result

    def _carry_out(self, launch: TaskLaunch, nodes: tuple[str, ...]) -> tuple[subprocess.Popen[bytes] | None, Ending]:
        """Make the call once."""
        watch = Watch(launch.folder, len(nodes) * launch.ranks_per_node, self._deadline, self._periods, self.revoked, self._ended)
        process, detail = self._start(launch, nodes)
        code = watch.wait(process) if process else None
        return process, replace(self._ending(launch, nodes, code), stopped=watch.stopped, detail=detail)

    def _is_worth_waiting(self, ending: Ending) -> bool:
        """Say whether the call failed before its command had begun, and the launcher could start nothing."""
        failed_first = ending.code not in (0, None) and ending.stopped is None and not ending.began
        return failed_first and self._setting.readiness.excuses()

    def _must_stop(self) -> bool:
        return self._deadline.is_due or self.revoked.is_set() or self._ended.is_set()

    def _start(self, launch: TaskLaunch, nodes: tuple[str, ...]) -> tuple[subprocess.Popen[bytes] | None, str]:
        placement = self._setting.placement(nodes, launch.ranks_per_node, launch.folder)
        environment = {**self._setting.environment_on(nodes), **launch.environment}
        try:
            write_hosts(placement)
            call = self._setting.launcher.argv(placement, launch.argv)
            again = self._setting.launcher.argv(placement, launch.by_hand or launch.argv)
            write_command(launch.folder, again, launch.environment, _BY_HAND)
            return start(call, launch.folder, environment, self._deadline.grace_s), ""
        except (OSError, CampaignError) as error:
            logger.exception("task %s was not started", launch.name)
            return None, f"not started: {error}"

    def _ending(self, launch: TaskLaunch, nodes: tuple[str, ...], code: int | None) -> Ending:
        return Ending(
            code=code,
            stopped=None,
            began=(launch.folder / PROGRESS_FILE).exists(),
            was_killed=code in self._setting.launcher.killed_codes,
            oom_kills=0,
            hosts=nodes,
            ranks=len(nodes) * launch.ranks_per_node,
        )

    def _account(self, launch: TaskLaunch, nodes: tuple[str, ...], verdict: Verdict) -> Verdict:
        """Let the nodes answer for a failure that may be theirs; a node that is found dead is the cause."""
        if verdict.status is not Status.FAILED:
            self._pool.acquit(nodes)
            return verdict
        if verdict.cause not in INFRASTRUCTURE:
            return verdict
        silent = self._probe(nodes)
        self._pool.condemn(silent)
        if silent:
            return Verdict(Status.FAILED, Cause.NODE_FAILURE, f"no answer from {', '.join(silent)}: {verdict.message}")
        self._pool.accuse(nodes, launch.name, verdict.cause)
        return verdict


def kernel_oom_kills() -> int:
    """Return how many processes the kernel of this host has killed for want of memory since it started."""
    try:
        rows = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(rows.get("oom_kill", 0))


def _outcome(folder: Path) -> Outcome | None:
    try:
        return read_outcome(folder)
    except (OSError, CampaignError, TypeError, ValueError, KeyError):
        logger.exception("outcome of %s cannot be read", folder)
        return None
