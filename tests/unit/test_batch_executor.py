"""The batch executor under Parsl: refusals, backlog, adoption, and an end that cancels nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from parsl import bash_app, python_app
from parsl.dataflow.dflow import DataFlowKernel

from model.outcome import Cause, Status, write_json
from workflow.batch.attempt import Attempt, Phase, windows_of
from workflow.batch.executor import BatchExecutor, kernel_config
from workflow.batch.job import Job
from workflow.batch.scheduler import JobRow, JobSpec, JobState, Scheduler, Snapshot
from workflow.batch.watched import Watched
from workflow.errors import CampaignError, LeaseHeld, SchedulerError
from workflow.journal import Journal
from workflow.launch import launches
from workflow.receipt import Receipt, write_receipt
from workflow.report.lines import Narrator
from workflow.rundir import AttemptDir, RunDir
from workflow.site import Periods, Site, load_site


class Scripted(Scheduler):
    """A batch system in memory that can be told to fail; a job runs when `run` says so."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.rows: dict[str, JobRow] = {}
        self.faults: list[SchedulerError] = []
        self.accepts_all_the_same = False
        self.queries = 0
        self.is_silent = False
        self.is_without_accounting = False

    def submit(self, spec: JobSpec) -> str:
        fault = self.faults.pop(0) if self.faults else None
        if fault is None or self.accepts_all_the_same:
            number = str(len(self.rows) + 1)
            self.rows[number] = JobRow(number, spec.token, str(spec.workdir), JobState.QUEUED, submitted=float(number))
        if fault is not None:
            raise fault
        return number

    def snapshot(self) -> Snapshot:
        self.queries += 1
        if self.is_silent:
            raise SchedulerError("slurmctld is away")
        return Snapshot(tuple(self.rows.values()), not self.is_without_accounting)

    def cancel(self, job_id: str, token: str) -> None:
        assert self.rows[job_id].token == token
        self.put(job_id, JobState.CANCELLED)

    def put(self, job_id: str, state: JobState, code: int | None = None) -> None:
        row = self.rows[job_id]
        self.rows[job_id] = JobRow(job_id, row.token, row.workdir, state, code, submitted=row.submitted)


@pytest.fixture
def site() -> Site:
    site = load_site("local")
    quick = site.scheduler.model_copy(update={"poll_s": 0.02, "unknown_window_s": 0.1, "absence_window_s": 0.06})
    return site.model_copy(
        update={"scheduler": quick, "periods": Periods(heartbeat_s=0.05, ttl_s=0.2, stop_margin_s=0, kill_after_s=0.1)}
    )


class World:
    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.scheduler = folder, Scripted(site)
        self.journal = Journal.take(RunDir(folder), Periods(heartbeat_s=0.05, ttl_s=0.2))
        self.told: list[tuple[str, Exception | None]] = []
        self.batch = BatchExecutor("batch", self.scheduler, self.journal, lambda *what: self.told.append(what))
        self.kernel = DataFlowKernel(kernel_config(self.batch, folder / "parsl"))
        self.app = python_app(launches(lambda job: job), data_flow_kernel=self.kernel, executors=["batch"])

    def job(self, name: str, phase: Phase = Phase.INTENT, job_id: str | None = None) -> Job:
        folder = AttemptDir(self.folder / name)
        folder.root.mkdir(exist_ok=True)
        folder.script.touch()
        spec = JobSpec(f"c{name}", folder.root, folder.script, folder.log, 1, 60.0)
        return Job(name, spec, folder, name, 1, 1, phase, job_id)

    def finish(self, job: Job, number: str, status: Status = Status.DONE) -> None:
        job.folder.run.mkdir()
        write_receipt(job.folder.receipt, Receipt(job.spec.token, job.stage, 1, 1, status))
        self.scheduler.put(number, JobState.COMPLETED, 0)

    def names(self) -> list[str]:
        return [line["event"] for line in self.journal.events]

    def wait(self, condition: Any) -> None:
        tick = threading.Event()
        for _ in range(1000):
            if condition():
                return
            tick.wait(0.02)
        raise AssertionError(self.names())


@pytest.fixture
def world(tmp_path: Path, site: Site) -> Iterator[World]:
    world = World(tmp_path, site)
    yield world
    if not world.kernel.cleanup_called:
        world.kernel.cleanup()
    world.journal.drop()


def test_ordinary_apps_are_refused_before_their_bodies_run(world: World, tmp_path: Path) -> None:
    def work() -> str:
        (tmp_path / "ran").touch()
        return "ran"

    def command() -> str:
        (tmp_path / "ran").touch()
        return f"touch {tmp_path / 'ran'}"

    here: dict[str, Any] = {"data_flow_kernel": world.kernel, "executors": ["batch"]}
    for future in (python_app(work, **here)(), bash_app(command, **here)(), python_app(launches(lambda: "text"), **here)()):
        with pytest.raises(CampaignError) as error:
            future.result(timeout=10)
        assert error.value.remedy
    assert not (tmp_path / "ran").exists()


def test_a_backlog_of_many_is_settled_whole_by_one_query_for_all(world: World) -> None:
    jobs = [world.job(f"j{number}") for number in range(50)]
    futures = [world.app(job) for job in jobs]
    world.wait(lambda: len(world.scheduler.rows) == 50)
    before = world.scheduler.queries
    of = {row.token: number for number, row in world.scheduler.rows.items()}
    for job in jobs:
        world.finish(job, of[job.spec.token])
    assert [future.result(timeout=20).status for future in futures] == [Status.DONE] * 50
    assert world.scheduler.queries - before < 50
    assert world.names().count("submitted") == world.names().count("settled") == 50


def test_a_future_in_a_list_is_a_dependency(world: World) -> None:
    first = world.job("a")
    future = world.app(first)

    @launches
    def second(needs: list[Any]) -> Job:
        assert needs[0].status is Status.DONE
        return world.job("b")

    then = python_app(second, data_flow_kernel=world.kernel, executors=["batch"])([future])
    world.wait(lambda: "1" in world.scheduler.rows)
    assert len(world.scheduler.rows) == 1
    world.finish(first, "1")
    world.wait(lambda: "2" in world.scheduler.rows)
    world.finish(world.job("b"), "2")
    assert then.result(timeout=10).status is Status.DONE


def test_a_second_job_of_a_token_is_written_down_until_the_accounting_proves_what_it_used(world: World) -> None:
    job = world.job("a")
    future = world.app(job)
    world.wait(lambda: "submitted" in world.names())
    world.scheduler.submit(job.spec)
    world.wait(lambda: world.names().count("found_beside") == 2)
    found = [(line["job_id"], line["node_hours"]) for line in world.journal.events if line["event"] == "found_beside"]
    assert found == [("2", None), ("2", 0.0)], "the younger one is cancelled"
    world.finish(job, "1")
    future.result(timeout=10)


def test_an_attempt_that_vanished_counts_in_full(world: World) -> None:
    job = world.job("a")
    future = world.app(job)
    world.wait(lambda: "submitted" in world.names())
    job.folder.run.mkdir()
    world.scheduler.rows.clear()
    assert future.result(timeout=20).cause is Cause.NODE_FAILURE
    settled = next(line for line in world.journal.events if line["event"] == "settled")
    assert settled["node_hours"] == pytest.approx(1 / 60)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_submission_without_an_answer_is_found_or_repeated(world: World, accepted: bool) -> None:
    world.scheduler.faults = [SchedulerError("timed out", unknown=True)]
    world.scheduler.accepts_all_the_same = accepted
    job = world.job("a")
    future = world.app(job)
    world.wait(lambda: "submitted" in world.names())
    assert world.names().count("submit_unknown") == 1
    assert len(world.scheduler.rows) == 1
    world.finish(job, "1")
    assert future.result(timeout=10).status is Status.DONE


def test_a_refusal_for_good_settles_and_bars_the_attempt(world: World) -> None:
    world.scheduler.faults = [SchedulerError("no such account", transient=False)]
    job = world.job("a")
    settled = world.app(job).result(timeout=10)
    assert (settled.status, settled.cause) == (Status.FAILED, Cause.BAD_CONFIG)
    assert "no such account" in settled.message
    assert job.folder.revoked.exists()


def test_an_attempt_whose_folder_is_gone_ends_instead_of_being_refused_for_ever(world: World) -> None:
    job = world.job("a")
    world.scheduler.faults = [SchedulerError("too many jobs")]
    shutil.rmtree(job.folder.root)
    settled = world.app(job).result(timeout=10)
    assert (settled.status, settled.cause) == (Status.FAILED, Cause.STORAGE)
    assert job.folder.revoked.exists() and not world.scheduler.rows and world.scheduler.faults, "nothing was submitted"


def test_what_stands_is_adopted(world: World) -> None:
    for name, state in (("queued", JobState.QUEUED), ("running", JobState.RUNNING), ("ended", JobState.QUEUED)):
        world.scheduler.submit(world.job(name).spec)
        world.scheduler.put(str(len(world.scheduler.rows)), state)
    ended = world.job("ended", Phase.UNKNOWN)
    world.finish(ended, "3")
    futures = [
        world.app(world.job("queued", Phase.UNKNOWN)),
        world.app(world.job("running", Phase.SUBMITTED, "2")),
        world.app(ended),
    ]
    assert futures[2].result(timeout=10).status is Status.DONE
    world.wait(lambda: any(what[0] == "cqueued" for what in world.told) and "started" in world.names())
    assert len(world.scheduler.rows) == 3, "nothing was submitted"


def test_a_token_in_another_campaigns_folder_is_not_ours(world: World, tmp_path: Path) -> None:
    world.scheduler.rows["1"] = JobRow("1", "ca", str(tmp_path / "elsewhere"), JobState.RUNNING)
    world.app(world.job("a"))
    world.wait(lambda: len(world.scheduler.rows) == 2)


def running(world: World) -> Job:
    """Return a job whose agent has begun, and was submitted by an earlier driver."""
    job = world.job("a", Phase.SUBMITTED, "1")
    world.scheduler.submit(job.spec)
    world.scheduler.put("1", JobState.RUNNING)
    job.folder.run.mkdir()
    write_json(job.folder.start, {"job_id": "1"})
    write_json(job.folder.heartbeat, {"count": 5})
    return job


def test_a_pass_stays_until_an_agent_was_seen_counting(world: World) -> None:
    """Passes of a single look, as cron makes them, would never see that one is silent."""
    job = running(world)
    world.app(job)
    world.wait(lambda: world.scheduler.queries > 2)
    assert not world.batch.is_at_rest([job.spec.token])
    write_json(job.folder.heartbeat, {"count": 6})
    world.wait(lambda: world.batch.is_at_rest([job.spec.token]))
    assert world.scheduler.rows["1"].state is JobState.RUNNING


def test_a_pass_stays_until_a_silent_job_is_settled(world: World) -> None:
    job = running(world)
    future = world.app(job)
    world.wait(lambda: world.batch.is_at_rest([job.spec.token]))
    assert world.scheduler.rows["1"].state is JobState.CANCELLED
    assert future.result(timeout=1).message == "its agent fell silent, and its job was ended"


def test_a_pass_leaves_a_silent_job_that_cannot_be_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.scheduler, "cancel", lambda *_: None)
    job = running(world)
    future = world.app(job)
    world.wait(lambda: world.batch.is_at_rest([job.spec.token]))
    assert not future.done()


def test_ending_the_executor_cancels_nothing(world: World) -> None:
    future = world.app(world.job("a"))
    world.wait(lambda: "submitted" in world.names())
    world.kernel.cleanup()
    assert [row.state for row in world.scheduler.rows.values()] == [JobState.QUEUED]
    assert not future.done()


def test_a_late_job_of_a_settled_attempt_is_cancelled(world: World) -> None:
    world.batch.guard(world.job("old", Phase.SETTLED, "0"))
    world.scheduler.rows["9"] = JobRow("9", "cold", str(world.folder / "old"), JobState.QUEUED)
    world.app(world.job("a"))
    world.wait(lambda: world.scheduler.rows["9"].state is JobState.CANCELLED)


def test_a_lost_lease_stops_the_executor_before_it_submits(world: World) -> None:
    (world.folder / "journal" / "2.jsonl").touch()
    future = world.app(world.job("a"))
    world.wait(lambda: bool(world.told))
    assert isinstance(world.told[0][1], LeaseHeld)
    assert not world.scheduler.rows and not future.done()


def test_a_job_lingers_until_what_it_cost_is_written_down(world: World) -> None:
    """A driver that looked in between would leave, as if more were to come."""
    job = world.job("old", Phase.SETTLED, "1")
    lingered: list[bool] = []
    world.journal.listener = lambda line: lingered.append(world.batch.lingers) if line["event"] == "accounted" else None
    world.scheduler.submit(job.spec)
    world.scheduler.put("1", JobState.COMPLETED, 0)
    world.batch.guard(job, lingers=True)
    world.wait(lambda: "accounted" in world.names() and not world.batch.lingers)
    assert lingered == [True]


def test_a_displaced_driver_cancels_and_bars_nothing(world: World) -> None:
    job = world.job("a")
    world.scheduler.submit(job.spec)
    (world.folder / "journal" / "2.jsonl").touch()
    with pytest.raises(LeaseHeld):
        world.batch._cancel(("1",), job.spec.token)
    assert world.scheduler.rows["1"].state is JobState.QUEUED
    with pytest.raises(LeaseHeld):
        world.batch._bar(Watched(job, Attempt(job.spec.token, windows_of(world.scheduler.site)), Future()))
    assert not job.folder.run.exists()


def test_a_batch_system_that_does_not_answer_is_told_once_and_again_when_it_does(world: World) -> None:
    world.scheduler.is_silent = True
    job = world.job("a")
    future = world.app(job)
    world.wait(lambda: world.scheduler.queries > 8)
    assert [name for name in world.names() if name != "lease"] == ["scheduler_silent"], "nothing is submitted blindly"
    assert "slurmctld is away" in str(Narrator().tell(world.journal.events[-1]))
    world.scheduler.is_silent = False
    world.wait(lambda: "submitted" in world.names())
    assert world.names().count("scheduler_answers") == 1
    world.finish(job, "1")
    assert future.result(20).status is Status.DONE


def test_without_accounting_neither_absence_nor_end_is_proven_and_what_is_seen_counts(world: World) -> None:
    gone, ended = world.job("a"), world.job("b")
    futures = [world.app(job) for job in (gone, ended)]
    world.wait(lambda: world.names().count("submitted") == 2)
    world.scheduler.is_without_accounting = True
    rows = dict(world.scheduler.rows)
    (first,) = [job_id for job_id, row in rows.items() if row.token == gone.spec.token]
    (second,) = [job_id for job_id in rows if job_id != first]
    del world.scheduler.rows[first]
    world.scheduler.put(second, JobState.FAILED, 3)
    seen = world.scheduler.queries
    world.wait(lambda: world.scheduler.queries > seen + 40)
    assert not {"settled", "revoked"} & set(world.names())
    assert "accounting does not answer" in str(world.journal.events[-1])
    world.scheduler.rows[first] = rows[first]
    world.scheduler.is_without_accounting = False
    assert futures[1].result(20).cause is not None
    assert not futures[0].done()
