"""Judge why a job ended that left no receipt, from accounting alone."""

from __future__ import annotations

from model.outcome import Cause
from workflow.batch.scheduler import JobRow, JobState

_OF_STATE = {
    JobState.TIMEOUT: (Cause.WALLTIME, "its walltime ended before it could stop in order"),
    JobState.NODE_FAIL: (Cause.NODE_FAILURE, "a node failed"),
    JobState.PREEMPTED: (Cause.PREEMPTED, "the site took its nodes away"),
    JobState.OUT_OF_MEMORY: (Cause.OOM, "a node ran out of memory"),
    JobState.CANCELLED: (Cause.SCHEDULER, "it was cancelled by somebody else"),
}
_KILLED, _TERMINATED, _INTERRUPTED, _HUNG_UP = 128 + 9, 128 + 15, 128 + 2, 128 + 1
_OF_EXIT = {
    3: (Cause.NODE_FAILURE, "its agent had been taken for dead, and found so when it went on"),  # a driver died between both
    0: (Cause.STORAGE, "it ended well by its exit code, but left no receipt"),
    73: (Cause.STORAGE, "it could not make its run folder"),  # EX_CANTCREAT, from our own script
    74: (
        Cause.STORAGE,
        "it could not write its receipt: see to space and quota of the campaign's folder",
    ),  # EX_IOERR, of our agent
    126: (Cause.BAD_CONFIG, "its command cannot be executed"),
    127: (Cause.BAD_CONFIG, "its command was not found"),
    _KILLED: (Cause.NODE_FAILURE, "its agent was killed"),
    _TERMINATED: (Cause.PREEMPTED, "its agent was asked to end from outside"),
    _INTERRUPTED: (Cause.PREEMPTED, "its agent was interrupted from outside"),
    _HUNG_UP: (Cause.PREEMPTED, "its agent was hung up on"),
}


def judge(row: JobRow, *, started: bool) -> tuple[Cause, str]:
    """Return the cause class and one sentence for an ended job without a receipt.

    Args:
        row: The final row.
        started: Whether its agent got as far as to say that it had started.
    """
    own = f"; the batch system's own code is {row.exit}" if row.exit is not None and row.exit < 0 else ""
    if row.state in _OF_STATE:
        cause, message = _OF_STATE[row.state]
        return cause, f"{message}{own}"
    if own:
        return Cause.SCHEDULER, f"the batch system gave it up{own}"
    if row.exit is None:
        return Cause.SCHEDULER, "it ended, and the batch system does not say how"
    if row.exit == 0 and not started:
        return Cause.SCHEDULER, "it ended without having started its agent"
    if row.exit is not None and row.exit in _OF_EXIT:
        return _OF_EXIT[row.exit]
    return Cause.BUG, f"it ended with exit code {row.exit} and left no receipt"
