"""Every way a task can end has one cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.outcome import Cause, Outcome, Status
from workflow.allocation.judge import Ending, Stopped, judge

ENDING = Ending(code=1, stopped=None, began=True, was_killed=False, oom_kills=0, hosts=("a", "b"), ranks=4)
DONE = Outcome(Status.DONE, world_size=4, hosts=("a", "b"))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"code": 137, "was_killed": True, "oom_kills": 1}, Cause.OOM),
        ({"code": 9, "was_killed": True}, Cause.NODE_FAILURE),
        ({"code": 11}, Cause.BUG),
        ({"code": 134}, Cause.BUG),
        ({"code": 1}, Cause.BUG),
        ({"code": 0}, Cause.LAUNCHER),
        ({"code": 0, "began": False}, Cause.LAUNCHER),
        ({"code": 255, "began": False}, Cause.LAUNCHER),
        ({"code": 143}, Cause.LAUNCHER),
        ({"code": 97}, Cause.STORAGE),
        ({"code": None, "detail": "not started: no launcher"}, Cause.LAUNCHER),
        ({"stopped": Stopped.STALLED}, Cause.STALLED),
        ({"stopped": Stopped.DEADLINE}, Cause.WALLTIME),
        ({"stopped": Stopped.REVOKED}, Cause.PREEMPTED),
        ({"stopped": Stopped.ENDED}, Cause.PREEMPTED),
    ],
)
def test_an_end_without_an_account_of_its_own(changes: dict[str, object], cause: Cause) -> None:
    verdict = judge(replace(ENDING, **changes), None)
    assert (verdict.status, verdict.cause) == (Status.FAILED, cause)
    assert verdict.message


@pytest.mark.parametrize("status", [Status.DONE, Status.PARTIAL])
@pytest.mark.parametrize("stopped", [None, Stopped.DEADLINE])
def test_an_orderly_end_counts_however_the_processes_ended(status: Status, stopped: Stopped | None) -> None:
    verdict = judge(replace(ENDING, code=137, was_killed=True, stopped=stopped), replace(DONE, status=status))
    assert (verdict.status, verdict.cause) == (status, None)


def test_its_own_cause_counts_before_its_death() -> None:
    own = Outcome(Status.FAILED, Cause.DIVERGED, "loss is not finite", world_size=4)
    assert judge(replace(ENDING, was_killed=True, oom_kills=2), own).cause is Cause.DIVERGED


def test_a_stall_stays_a_stall_though_ranks_checkpoint_when_they_are_ended() -> None:
    assert judge(replace(ENDING, stopped=Stopped.STALLED), replace(DONE, status=Status.PARTIAL)).cause is Cause.STALLED


@pytest.mark.parametrize("outcome", [replace(DONE, world_size=1), replace(DONE, hosts=("a",)), replace(DONE, hosts=("a", "c"))])
def test_a_world_of_another_shape_is_the_launchers_fault(outcome: Outcome) -> None:
    assert judge(replace(ENDING, code=0), outcome).cause is Cause.LAUNCHER


def test_host_names_are_compared_without_their_domain() -> None:
    assert judge(replace(ENDING, code=0), replace(DONE, hosts=("a.hsn.cm", "b.hsn.cm"))).status is Status.DONE
