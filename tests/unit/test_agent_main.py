"""How the agent ends where it cannot write what it has to say, or where its batch system does not speak."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from dying import failing_write

from model.outcome import Cause, Status
from workflow.allocation import agent
from workflow.allocation.record import StageRecord
from workflow.batch import command
from workflow.receipt import read_receipt
from workflow.request import Request, write_request
from workflow.rundir import AttemptDir
from workflow.site import load_site


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESHUTDOWN])
def test_a_full_disk_is_the_storages_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    def fail(_: Path) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(agent, "read_request", fail)
    assert agent.main(["agent", str(tmp_path)]) == agent.EXIT_STORAGE


def test_any_other_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(errno.EACCES, "not ours")

    monkeypatch.setattr(agent, "read_request", fail)
    with pytest.raises(PermissionError):
        agent.main(["agent", str(tmp_path)])


@pytest.mark.parametrize(("name", "programs"), [("aurora", ("qstat",)), ("frontier", ("scontrol", "squeue"))])
def test_a_server_that_is_away_when_a_job_starts_costs_an_attempt_and_no_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, programs: tuple[str, ...]
) -> None:
    for program in programs:
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho Connection refused >&2\nexit 255\n")
        path.chmod(0o700)
    (tmp_path / "nodes").write_text("n1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for variable, value in {"PBS_JOBID": "1.a", "PBS_NODEFILE": str(tmp_path / "nodes"), "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(variable, value)
    waited: list[float] = []
    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=waited.append))
    attempt = AttemptDir(tmp_path / "link-1")
    attempt.run.mkdir(parents=True)
    request = _request(tmp_path, name)
    write_request(attempt.request, request)
    assert agent.main(["agent", str(attempt.root)]) == 1
    receipt = read_receipt(attempt.receipt)
    assert receipt is not None and (receipt.status, receipt.cause) == (Status.FAILED, Cause.SCHEDULER), receipt
    assert sum(waited) >= 100 and len((tmp_path / "asked").read_text().splitlines()) == 12
    assert agent.inherited_result(_request(tmp_path, name, link=2, previous=("link-1",))) is None, "the next link tries"


@pytest.mark.parametrize("text", [None, "\n"])
def test_a_node_file_that_is_lost_or_empty_costs_an_attempt_and_no_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    nodes = tmp_path / "nodes"
    if text is not None:
        nodes.write_text(text)
    monkeypatch.setenv("PBS_JOBID", "1.a")
    monkeypatch.setenv("PBS_NODEFILE", str(nodes))
    attempt = AttemptDir(tmp_path / "link-1")
    attempt.run.mkdir(parents=True)
    write_request(attempt.request, _request(tmp_path, "aurora"))
    assert agent.main(["agent", str(attempt.root)]) == 1
    receipt = read_receipt(attempt.receipt)
    assert receipt is not None and (receipt.status, receipt.cause) == (Status.FAILED, Cause.SCHEDULER), receipt
    assert str(nodes) in receipt.message
    assert agent.inherited_result(_request(tmp_path, "aurora", link=2, previous=("link-1",))) is None, "the next link tries"


@pytest.mark.parametrize("whole", [False, True])
def test_a_record_that_could_not_be_written_is_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: bool) -> None:
    """A line is left half by a full disk, or whole by a disk that cannot say whether it stands."""
    first, second = AttemptDir(tmp_path / "attempt-1"), AttemptDir(tmp_path / "attempt-2")
    for each in (first, second):
        each.run.mkdir(parents=True)
    record = StageRecord(first, tmp_path, [])
    record.append("ask", number=1)
    with failing_write(b'"number":2', whole=whole), pytest.raises(OSError, match="disk"):
        record.append("ask", number=2)
    with pytest.raises(OSError, match="nothing is appended behind") as error:
        record.append("tell", number=2)
    assert agent._cause_of(error.value) is Cause.STORAGE
    record.close()
    again = StageRecord(second, tmp_path, ["attempt-1"])
    again.append("ask", number=3)
    assert [each["number"] for each in again.events()] == ([1, 2, 3] if whole else [1, 3])


def _request(campaign: Path, name: str, link: int = 1, previous: tuple[str, ...] = ()) -> Request:
    site = load_site(name).model_dump(mode="json")
    of_stage = ("c", "t", "work", 0, "train", {}, link, 2, 1, 1, 60.0, site, {}, {}, {})
    return Request("0", str(campaign), *of_stage, previous=previous)
