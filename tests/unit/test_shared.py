"""All drivers of a user on a host ask the batch system together, and none takes an older answer for a new one."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path

import pytest

from workflow.batch import shared as module
from workflow.batch.scheduler import JobRow, JobSpec, JobState, Scheduler, Snapshot, for_site
from workflow.batch.shared import Shared, shared
from workflow.errors import SchedulerError
from workflow.site import load_site


class Counted(Scheduler):
    """A batch system in memory that counts what it is asked."""

    def __init__(self, poll_s: float = 1000.0, server: str = "a", command_timeout_s: float = 60.0) -> None:
        site = load_site("frontier")
        changes = {"poll_s": poll_s, "command_timeout_s": command_timeout_s}
        super().__init__(site.model_copy(update={"scheduler": site.scheduler.model_copy(update=changes)}))
        self.name, self.queries, self.rows = server, 0, [JobRow("1", "c1", "/w", JobState.TIMEOUT, 143, "r", 1.5, 2.0, 3.0, 4)]
        self.fault = ""

    @property
    def server(self) -> str:
        return self.name

    def submit(self, spec: JobSpec) -> str:
        self.rows.append(JobRow("2", spec.token, str(spec.workdir), JobState.QUEUED))
        if self.fault:
            raise SchedulerError(self.fault, unknown=True)
        return "2"

    def snapshot(self) -> Snapshot:
        self.queries += 1
        if self.fault:
            raise SchedulerError(self.fault)
        return Snapshot(tuple(self.rows), is_complete=False)

    def cancel(self, job_id: str, token: str) -> None:
        assert (job_id, token) == ("2", "c2")
        self.rows.clear()


def spec(folder: Path) -> JobSpec:
    return JobSpec("c2", folder, folder / "script.sh", folder / "log", 1, 60.0)


def test_one_query_serves_all_and_the_answer_is_whole(tmp_path: Path) -> None:
    batch = Counted()
    drivers = [Shared(batch, tmp_path) for _ in range(3)]
    answers = [driver.snapshot() for driver in drivers for _ in range(4)]
    assert batch.queries == 1
    assert set(answers) == {Snapshot(tuple(batch.rows), is_complete=False)}


def test_another_server_or_an_old_answer_is_asked_anew(tmp_path: Path) -> None:
    quick = Counted(poll_s=0.05)
    driver = Shared(quick, tmp_path)
    driver.snapshot()
    time.sleep(0.06)
    driver.snapshot()
    assert quick.queries == 2
    other = Counted(server="b")
    Shared(Counted(), tmp_path).snapshot()
    Shared(other, tmp_path).snapshot()
    assert other.queries == 1


@pytest.mark.parametrize("fault", ["", "no answer"])
def test_who_has_changed_something_takes_no_answer_from_before(tmp_path: Path, fault: str) -> None:
    batch = Counted()
    mine, theirs = Shared(batch, tmp_path), Shared(batch, tmp_path)
    theirs.snapshot()
    batch.fault = fault
    if fault:
        with pytest.raises(SchedulerError):
            mine.submit(spec(tmp_path))
    else:
        mine.submit(spec(tmp_path))
    batch.fault = ""
    assert [row.token for row in mine.snapshot().rows] == ["c1", "c2"]
    assert batch.queries == 2
    mine.cancel("2", "c2")
    assert mine.snapshot().rows == ()


def test_silence_is_shared_too(tmp_path: Path) -> None:
    batch = Counted()
    batch.fault = "slurmctld is away"
    for _ in range(3):
        with pytest.raises(SchedulerError, match="away") as error:
            Shared(batch, tmp_path).snapshot()
        assert error.value.transient and not error.value.unknown
    assert batch.queries == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": 1, "asked": "x"}', '{"boot": "elsewhere", "asked": 1e9}'])
def test_what_cannot_be_read_or_is_of_another_boot_counts_as_none(tmp_path: Path, text: str) -> None:
    batch = Counted()
    driver = Shared(batch, tmp_path)
    driver.snapshot()
    (path,) = tmp_path.glob("*.json")
    path.write_text(text)
    driver.snapshot()
    assert batch.queries == 2
    assert json.loads(path.read_text())["rows"]


def test_a_driver_that_stands_still_keeps_nobody_for_long(tmp_path: Path) -> None:
    driver = Shared(Counted(), tmp_path)
    driver.snapshot()
    (lock,) = tmp_path.glob("*.lock")
    with open(lock) as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        batch = Counted(poll_s=1e-9, command_timeout_s=0.3)
        Shared(batch, tmp_path).snapshot()
    assert batch.queries == 1


def test_drivers_that_ask_at_once_wait_for_the_one_that_asks(tmp_path: Path) -> None:
    batch = Counted()
    ask = batch.snapshot

    def slow() -> Snapshot:
        time.sleep(0.3)
        return ask()

    batch.snapshot = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=Shared(batch, tmp_path).snapshot) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batch.queries == 1


def test_the_folder_must_be_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    batch = Counted()
    assert isinstance(shared(batch), Shared)
    folder = tmp_path / f"campaign-queries-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert shared(batch) is batch, "others could read it, or have made it"
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert shared(batch) is batch


def test_the_batch_system_of_one_machine_is_read_from_its_files() -> None:
    local = for_site(load_site("local"))
    assert shared(local) is local


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders to another user")
def test_a_folder_of_another_user_is_not_taken_for_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert module._is_ours(tmp_path)
    os.chown(tmp_path, 65534, 65534)
    assert not module._is_ours(tmp_path)
