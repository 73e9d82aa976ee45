"""The local batch system, with real processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow.batch import scheduler
from workflow.batch.local import MARK, Spool
from workflow.batch.scheduler import JobRow, JobSpec, JobState, this_job
from workflow.errors import SchedulerError, SiteError
from workflow.process import carriers, start_time
from workflow.queues import queue_for
from workflow.site import Site, load_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = load_site("local")
    options = {"spool": str(tmp_path / "spool"), "kill_wait_s": 0.4}
    return site.model_copy(update={"scheduler": site.scheduler.model_copy(update={"options": options})})


def job(folder: Path, text: str, *, nodes: int = 1, walltime_s: float = 60.0, after: tuple[str, ...] = ()) -> JobSpec:
    folder.mkdir(exist_ok=True)
    script = folder / "script.sh"
    script.write_text(f"#!/bin/sh\n{text}\n")
    return JobSpec(f"c{folder.name}", folder, script, folder / "job.log", nodes, walltime_s, "local", after)


def row(batch: scheduler.Scheduler, job_id: str) -> JobRow:
    return next(each for each in batch.snapshot().rows if each.job_id == job_id)


def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def ended(batch: scheduler.Scheduler, job_id: str) -> JobRow:
    wait(lambda: row(batch, job_id).state.is_final)
    return row(batch, job_id)


def supervisor(site: Site, job_id: str) -> int:
    return int(Spool(Path(site.scheduler.options["spool"])).job(int(job_id))["supervisor"]["pid"])


def mark(site: Site, job_id: str) -> str:
    return f"{MARK}={Spool(Path(site.scheduler.options['spool'])).job(int(job_id))['mark']}"


def test_exit_codes_and_what_a_job_knows(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    good = batch.submit(
        job(tmp_path / "a", 'echo "$LOCAL_JOB_ID $LOCAL_JOB_NODES $LOCAL_JOB_END" > facts; pwd >> facts', nodes=2)
    )
    bad = batch.submit(job(tmp_path / "b", "exit 3"))
    first, second = ended(batch, good), ended(batch, bad)
    assert (first.state, first.exit, first.nodes) == (JobState.COMPLETED, 0, 2)
    assert (second.state, second.exit) == (JobState.FAILED, 3)
    assert first.node_hours > 0
    number, nodes, end, where = (tmp_path / "a" / "facts").read_text().split()
    assert (number, nodes, where) == (good, "node1,node2", str(tmp_path / "a"))
    assert float(end) == pytest.approx((first.started or 0) + 60, abs=0.01)
    assert batch.snapshot().of("ca", tmp_path / "a") == (first,)
    assert batch.snapshot().of("ca", tmp_path / "b") == ()


def test_this_job_reads_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SiteError):
        this_job(site)
    for name, value in {"LOCAL_JOB_ID": "7", "LOCAL_JOB_NODES": "node1,node2", "LOCAL_JOB_END": "12.5"}.items():
        monkeypatch.setenv(name, value)
    assert this_job(site) == scheduler.JobInfo("7", ("node1", "node2"), 12.5)


def test_nodes_are_a_resource_and_the_queue_is_first_in_first_out(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    held = "while [ ! -e go ]; do sleep 0.05; done"
    one, whole, late = (batch.submit(job(tmp_path / name, held, nodes=nodes)) for name, nodes in (("a", 1), ("b", 2), ("c", 1)))
    wait(lambda: row(batch, one).state is JobState.RUNNING)
    time.sleep(0.5)  # long enough for a wrong scheduler to start the small late one on the free node
    assert [row(batch, j).state for j in (whole, late)] == [JobState.QUEUED, JobState.QUEUED]
    for name, number in (("a", one), ("b", whole), ("c", late)):
        wait(lambda number=number: row(batch, number).state is JobState.RUNNING)
        (tmp_path / name / "go").touch()
        ended(batch, number)
    rows = [row(batch, j) for j in (one, whole, late)]
    assert all((b.started or 0) >= (a.ended or 0) for a, b in zip(rows, rows[1:], strict=False))


def test_a_dependent_job_waits_and_lets_others_pass(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    first = batch.submit(job(tmp_path / "a", "while [ ! -e go ]; do sleep 0.05; done; exit 5"))
    second = batch.submit(job(tmp_path / "b", "true", after=(first,)))
    third = batch.submit(job(tmp_path / "c", "true"))
    ended(batch, third)
    assert row(batch, second).state is JobState.QUEUED
    (tmp_path / "a" / "go").touch()
    assert ended(batch, second).state is JobState.COMPLETED
    assert (row(batch, second).started or 0) >= (row(batch, first).ended or 0)


def test_walltime_asks_first_and_then_kills(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    polite = batch.submit(job(tmp_path / "a", "trap 'echo bye > bye; exit 4' TERM; while :; do sleep 0.05; done", walltime_s=1))
    deaf = batch.submit(job(tmp_path / "b", "trap '' TERM; while :; do sleep 0.05; done", walltime_s=1))
    assert (ended(batch, polite).state, row(batch, polite).exit) == (JobState.TIMEOUT, 4)
    assert (tmp_path / "a" / "bye").exists()
    assert (ended(batch, deaf).state, row(batch, deaf).exit) == (JobState.TIMEOUT, 137)


def test_nothing_is_left_behind_when_the_row_stands(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    text = (
        "setsid sh -c 'trap \"\" TERM HUP; sleep 300 & echo $! > inner; wait' & while [ ! -s inner ]; do sleep 0.05; done; exit 0"
    )
    number = batch.submit(job(tmp_path / "a", text))
    ended(batch, number)
    assert start_time(int((tmp_path / "a" / "inner").read_text())) is None
    assert carriers(mark(site, number)) == []


def test_cancel_in_the_queue_and_while_running(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    running = batch.submit(job(tmp_path / "a", "sleep 300", nodes=2))
    queued = batch.submit(job(tmp_path / "b", "touch ran", nodes=2))
    wait(lambda: row(batch, running).state is JobState.RUNNING)
    for job_id, token in ((running, "cb"), (queued, "ca"), ("999", "ca")):
        batch.cancel(job_id, token)
        assert not list(Path(site.scheduler.options["spool"]).glob("*.cancel")), "a job of another name is left alone"
    batch.cancel(queued, "cb")
    assert (ended(batch, queued).state, row(batch, queued).started) == (JobState.CANCELLED, None)
    batch.cancel(running, "ca")
    assert ended(batch, running).state is JobState.CANCELLED
    assert not (tmp_path / "b" / "ran").exists()


def test_the_job_dies_with_its_supervisor_and_is_read_as_ended(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    number = batch.submit(
        job(tmp_path / "a", "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $! > stray; exec sleep 300")
    )
    wait(lambda: (tmp_path / "a" / "stray").exists() and bool((tmp_path / "a" / "stray").read_text()))
    assert len(carriers(mark(site, number))) >= 2
    os.kill(supervisor(site, number), signal.SIGKILL)
    assert ended(batch, number).state is JobState.NODE_FAIL
    assert carriers(mark(site, number)) == []
    after = batch.submit(job(tmp_path / "b", "true", nodes=2, after=(number,)))
    assert ended(batch, after).state is JobState.COMPLETED


def test_a_job_of_an_earlier_boot_has_ended_and_blocks_nobody(site: Site, tmp_path: Path) -> None:
    batch = scheduler.for_site(site)
    before = batch.submit(job(tmp_path / "a", "sleep 300", nodes=2))
    wait(lambda: row(batch, before).state is JobState.RUNNING)
    os.kill(supervisor(site, before), signal.SIGKILL)
    path = tmp_path / "spool" / f"{before}.job"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "supervisor": {**facts["supervisor"], "boot": "another"}}))
    assert ended(scheduler.for_site(site), before).state is JobState.NODE_FAIL
    assert ended(batch, batch.submit(job(tmp_path / "b", "true", nodes=2))).state is JobState.COMPLETED


def test_too_large_a_job_is_refused_for_good(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SchedulerError) as error:
        scheduler.for_site(site).submit(job(tmp_path / "a", "true", nodes=3))
    assert not error.value.transient and not error.value.unknown


def test_a_supervisor_that_cannot_start_leaves_the_submission_unknown(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = scheduler.for_site(site)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SchedulerError) as error:
        batch.submit(job(tmp_path / "a", "true"))
    assert error.value.unknown


def test_queue_and_kind_are_chosen_by_the_site(site: Site) -> None:
    assert queue_for(site, 2, 3600).name == "local"
    with pytest.raises(SiteError):
        queue_for(site, 3, 3600)
    with pytest.raises(SiteError) as error:
        scheduler.for_site(site.model_copy(update={"scheduler": site.scheduler.model_copy(update={"kind": "locl"})}))
    assert "local" in error.value.remedy
