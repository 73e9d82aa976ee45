"""Say how a task ended, and whose fault that is, from what it left and how its processes ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from model.outcome import Cause, Outcome, Status

_ORPHANED = 97  # how a rank ends itself when it sees no heartbeat (model/owner.py)
_TERMINATED = (15, 143)
_SIGNALS_OF_DEFECTS = (4, 6, 7, 8, 11)  # ILL ABRT BUS FPE SEGV: the program's own


class Stopped(StrEnum):
    """Why the agent ended a task's processes itself."""

    DEADLINE = "deadline"
    STALLED = "stalled"
    REVOKED = "revoked"
    ENDED = "ended"


@dataclass(frozen=True)
class Ending:
    """How the processes of a task ended.

    Attributes:
        code: The launcher's exit code; None where it could not be started or does not end.
        stopped: Why the agent ended them, or None.
        began: Whether the command wrote any progress: the launcher did its part.
        was_killed: Whether the code says that a rank got signal 9.
        oom_kills: Processes that the kernel killed for want of memory meanwhile, as far as this host can see.
        hosts: Nodes that were asked for.
        ranks: Ranks that were asked for.
        detail: What failed, where no code says it.
    """

    code: int | None
    stopped: Stopped | None
    began: bool
    was_killed: bool
    oom_kills: int
    hosts: tuple[str, ...]
    ranks: int
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """The end of a task in the words that everything else uses."""

    status: Status
    cause: Cause | None
    message: str


def judge(ending: Ending, outcome: Outcome | None) -> Verdict:
    """Judge a task: its own account counts first, then why we ended it, then how it died."""
    if ending.stopped is Stopped.STALLED:
        return _failed(Cause.STALLED, "no progress for too long; stacks are saved in its folder")
    if outcome is not None:
        return _believe(ending, outcome)
    if ending.stopped is not None:
        return _stopped(ending.stopped)
    return _died(ending)


def _believe(ending: Ending, outcome: Outcome) -> Verdict:
    if outcome.status is Status.FAILED:
        return Verdict(Status.FAILED, outcome.cause or Cause.BUG, outcome.message)
    if outcome.world_size != ending.ranks:
        # Seen with a launcher that lacks the ranks' process-management interface: each rank is a world of one.
        return _failed(Cause.LAUNCHER, f"{outcome.world_size} ranks took part, {ending.ranks} were asked for")
    if _short(outcome.hosts) != _short(ending.hosts):
        return _failed(Cause.LAUNCHER, f"it ran on {', '.join(outcome.hosts)} instead of {', '.join(ending.hosts)}")
    return Verdict(outcome.status, None, outcome.message)


def _stopped(why: Stopped) -> Verdict:
    if why is Stopped.DEADLINE:
        return _failed(Cause.WALLTIME, "it did not stop in time and was ended")
    word = "the attempt was revoked" if why is Stopped.REVOKED else "the allocation ends"
    return _failed(Cause.PREEMPTED, f"{word}; it was ended")


def _died(ending: Ending) -> Verdict:
    if ending.code is None:
        return _failed(Cause.LAUNCHER, ending.detail or "its processes do not end")
    if ending.was_killed and ending.oom_kills:
        return _failed(Cause.OOM, f"killed by the kernel for want of memory ({ending.oom_kills} kills)")
    if ending.was_killed:
        return _failed(Cause.NODE_FAILURE, "a rank was killed by signal 9, not for want of memory as far as this host can see")
    if ending.code == _ORPHANED:
        return _failed(Cause.STORAGE, "a rank saw the agent's heartbeat stand still while the agent lived")
    if ending.code in _TERMINATED:
        return _failed(Cause.LAUNCHER, "ended by a TERM that the agent did not send")
    if ending.code - 128 in _SIGNALS_OF_DEFECTS or ending.code in _SIGNALS_OF_DEFECTS:
        return _failed(Cause.BUG, f"a rank crashed (exit code {ending.code})")
    if not ending.began:
        return _failed(Cause.LAUNCHER, f"exit code {ending.code} before the command had begun; see stderr.log")
    if ending.code == 0:
        # Our commands leave an outcome before they end well; a launcher that has lost the node of all ranks may say 0 too.
        return _failed(Cause.LAUNCHER, "exit code 0 but no outcome: the launcher lost its ranks")
    return _failed(Cause.BUG, f"exit code {ending.code} and no outcome; see stderr.log")


def _failed(cause: Cause, message: str) -> Verdict:
    return Verdict(Status.FAILED, cause, message)


def _short(hosts: tuple[str, ...]) -> set[str]:
    return {host.partition(".")[0] for host in hosts}
