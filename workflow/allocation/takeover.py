"""Make sure that no agent of an earlier link is still at work when the next one begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.silence import Silence
from workflow.batch import fence
from workflow.process import ProcessId
from workflow.request import Request
from workflow.rundir import AttemptDir

logger = logging.getLogger(__name__)
_LOOKS = 8  # at a heartbeat in one time to live
_IDENTITY = ("host", "boot", "space", "pid", "start")


def take_over(request: Request, ttl_s: float, is_over: Callable[[], bool]) -> bool:
    """Revoke earlier attempts that left no receipt, and return when they are silent; say whether there were any.

    The batch system starts a link when the job before has ended by its books. On a node that it cannot reach that
    job's agent may live on, and no driver need be awake to revoke it. A revoked agent ends as soon as it looks.

    Args:
        request: This attempt's request.
        ttl_s: Seconds of a standing heartbeat after which its writer is taken for dead.
        is_over: Whether this allocation ends, so that nothing more is waited for.
    """
    left = fence.revoke_earlier(Path(request.campaign), request.previous)
    waits_for = [each for each in left if not _is_proven_dead(each)]
    if waits_for:
        logger.info("waiting for the silence of %s", ", ".join(str(each.root) for each in waits_for))
    _await_silence(waits_for, ttl_s, is_over)
    return bool(left)


def _await_silence(attempts: list[AttemptDir], ttl_s: float, is_over: Callable[[], bool]) -> None:
    silence = Silence().look([_count(each) for each in attempts], time.monotonic(), ttl_s / _LOOKS, ttl_s)
    while attempts and silence.stood_s < ttl_s and not is_over():
        time.sleep(ttl_s / _LOOKS)
        silence = silence.look([_count(each) for each in attempts], time.monotonic(), ttl_s / _LOOKS, ttl_s)


def _is_proven_dead(attempt: AttemptDir) -> bool:
    """Say whether the agent was a process of this very host that is gone."""
    fields = fence.read_facts(attempt.start)
    return all(name in fields for name in _IDENTITY) and ProcessId(**{name: fields[name] for name in _IDENTITY}).is_proven_dead()


def _count(attempt: AttemptDir) -> Any:
    return fence.read_facts(attempt.heartbeat).get("count")
