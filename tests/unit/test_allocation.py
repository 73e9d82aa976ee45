"""What the agent makes of a stage's configuration and names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.config import ScreenConfig, load
from model.outcome import Cause, Status
from workflow.allocation.agent import cut_short, failure, inherited_result, require_fence
from workflow.allocation.allocation import RevokedError, local_folder, moved
from workflow.allocation.deadline import Deadline
from workflow.allocation.staging import StageInError
from workflow.errors import SchedulerError, SiteError, StageError
from workflow.receipt import Output, Receipt, write_receipt
from workflow.request import Request
from workflow.rundir import AttemptDir
from workflow.stages.base import StageResult


def test_a_configuration_for_people_points_at_the_shared_files(tmp_path: Path) -> None:
    local, campaign = "/tmp/ä 'b'/7/{node}", "/home/ü/runs/gfm"
    config = ScreenConfig(
        checkpoint=Path(local, "stages/train"), candidates=Path(local, "stages/data/c"), resume=Path("/elsewhere")
    )
    again = moved(config, local, campaign)
    assert (str(again.checkpoint), str(again.candidates)) == (f"{campaign}/stages/train", f"{campaign}/stages/data/c")
    assert again.model_copy(update={"checkpoint": config.checkpoint, "candidates": config.candidates}) == config


def test_node_in_a_configuration_is_the_ranks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{node_variable: LOCAL_NODE, checkpoint: '/x/{node}/c', candidates: '/x/{node}/d'}"
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.setenv("LOCAL_NODE", "node2")
    config = load("screen", tmp_path / "config.yaml")
    assert isinstance(config, ScreenConfig) and str(config.checkpoint) == "/x/node2/c"
    monkeypatch.delenv("LOCAL_NODE")
    assert "{node}" in str(load("screen", tmp_path / "config.yaml"))


def test_an_attempt_removes_a_folder_of_its_own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert local_folder("/tmp/c-{user}/{job}/{node}", "12", "cabc") == "/tmp/c-ada/12/{node}"
    assert local_folder("/mnt/bb/{user}/", "12", "cabc") == "/mnt/bb/ada/cabc"


def _request(campaign: Path) -> Request:
    return Request("0", str(campaign), "c", "t", "work", 0, "k", {}, 1, 1, 1, 1, 60.0, {}, {}, {}, {})


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (StageError("no", "there", "do"), Cause.BAD_CONFIG),
        (StageInError("no copy"), Cause.STORAGE),
        (StageInError("no time", cause=Cause.WALLTIME), Cause.WALLTIME),
        (OSError(28, "No space left on device"), Cause.STORAGE),
        (OSError(2, "No such file"), Cause.BUG),
        (SchedulerError("no answer"), Cause.SCHEDULER),
        (SiteError("no job"), Cause.BAD_CONFIG),
        (KeyError(), Cause.BUG),
    ],
)
def test_an_exception_has_a_cause_a_message_and_a_traceback(tmp_path: Path, error: Exception, cause: Cause) -> None:
    attempt = AttemptDir(tmp_path / "a")
    attempt.run.mkdir(parents=True)
    result = failure(attempt, _request(tmp_path), error)
    assert (result.status, result.cause) == (Status.FAILED, cause) and result.message
    assert type(error).__name__ in (tmp_path / result.evidence["traceback"]).read_text()


def test_an_agent_without_its_fence_does_nothing(tmp_path: Path) -> None:
    attempt = AttemptDir(tmp_path)
    with pytest.raises(RevokedError, match="fence"):
        require_fence(attempt)
    attempt.run.mkdir()
    require_fence(attempt)
    attempt.start.touch()
    with pytest.raises(RevokedError, match="another agent"):
        require_fence(attempt)
    attempt.revoked.touch()
    with pytest.raises(RevokedError, match="revoked"):
        require_fence(attempt)


def _preempted() -> Deadline:
    deadline = Deadline(3600.0, 300.0, 60.0, lambda: 100.0, lambda: 0.0)
    deadline.advance("signal 15", from_outside=True)
    return deadline


@pytest.mark.parametrize(
    ("status", "cause"), [(Status.PARTIAL, None), (Status.FAILED, Cause.LAUNCHER), (Status.FAILED, Cause.WALLTIME)]
)
def test_what_a_preempted_attempt_did_not_end_uses_up_no_link(status: Status, cause: Cause | None) -> None:
    output = Output("checkpoint", "a", 1, "0")
    found = cut_short(StageResult(status, cause, "so far", (output,), {"epochs": 3}, {"quarantined": ["n1"]}), _preempted())
    assert (found.status, found.cause) == (Status.FAILED, Cause.PREEMPTED)
    assert (found.outputs, found.result) == ((output,), {"epochs": 3})
    assert "signal 15" in found.message and "3300 s" in found.message
    assert found.evidence == {"quarantined": ["n1"], "stopped_by": "signal 15", "taken_s": 3300.0, "said": "so far"}


@pytest.mark.parametrize(
    ("status", "cause"), [(Status.DONE, None), (Status.FAILED, Cause.BUG), (Status.FAILED, Cause.BAD_CONFIG)]
)
def test_what_a_preempted_attempt_did_end_stays_as_it_is(status: Status, cause: Cause | None) -> None:
    result = StageResult(status, cause, "so it is")
    assert cut_short(result, _preempted()) is result


def test_a_first_attempt_inherits_nothing(tmp_path: Path) -> None:
    assert inherited_result(_request(tmp_path)) is None


@pytest.mark.parametrize(
    ("ends", "inherited"),
    [
        (("done", ""), Status.DONE),
        (("partial", "done", ""), Status.DONE),
        (("bug", ""), Status.FAILED),
        (("bug", "", ""), Status.FAILED),
        (("bug", "killed"), None),
        (("stalled", ""), None),
        (("done", "killed"), Status.DONE),
    ],
)
def test_a_link_inherits_from_the_newest_that_has_started(
    tmp_path: Path, ends: tuple[str, ...], inherited: Status | None
) -> None:
    """`killed` has started and left no receipt; '' was cancelled in the queue, so that it never started."""
    names = []
    for link, end in enumerate(ends, start=1):
        attempt = AttemptDir(tmp_path / f"link-{link}")
        names.append(attempt.root.name)
        attempt.root.mkdir()
        if end:
            attempt.run.mkdir()
        if end not in ("", "killed"):
            status = Status(end) if end in ("done", "partial") else Status.FAILED
            cause = Cause(end) if status is Status.FAILED else None
            write_receipt(attempt.receipt, Receipt("t", "s", link, 1, status, cause))
    request = replace(_request(tmp_path), link=len(ends) + 1, previous=tuple(names))
    found = inherited_result(request)
    assert (found and found.status) == inherited
