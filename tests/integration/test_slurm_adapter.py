"""The Slurm adapter on a real Slurm: what is submitted, seen, cancelled, refused, and what silence means."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from login import end_by_name, home_of, wait
from slurm.cluster import Cluster
from slurm.world import OVERLAY, ended, job, row, with_queue, with_scheduler

from workflow.batch import scheduler
from workflow.batch.scheduler import JobRow, JobState, Scheduler, this_job
from workflow.batch.slurm import Kind
from workflow.errors import SchedulerError, SiteError
from workflow.site import Site, load_site

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
WAITS = "while [ ! -e go ]; do sleep 0.1; done"


@pytest.fixture
def site(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(OVERLAY, tmp_path)))
    return load_site("frontier")


@pytest.fixture
def batch(site: Site) -> Scheduler:
    return scheduler.for_site(site)


def test_ends_are_told_apart_by_state_and_exit_code(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    texts = {"good": "pwd; exit 0", "bad": "exit 3", "killed": "kill -9 $$", "terminated": "kill -15 $$"}
    ids = {name: batch.submit(job(site, tmp_path / name, text, nodes=2)) for name, text in texts.items()}
    rows = {name: ended(batch, job_id) for name, job_id in ids.items()}
    assert {name: (each.state, each.exit) for name, each in rows.items()} == {
        "good": (JobState.COMPLETED, 0),
        "bad": (JobState.FAILED, 3),
        "killed": (JobState.FAILED, 137),
        "terminated": (JobState.FAILED, 143),
    }
    good = rows["good"]
    assert (good.token, good.workdir, good.nodes) == ("cgood", str(tmp_path / "good"), 2)
    assert good.started is not None and good.ended is not None and good.submitted <= good.started <= good.ended
    assert [each.job_id for each in batch.snapshot().of("cgood", tmp_path / "good")] == [ids["good"]]
    assert batch.snapshot().of("cgood", tmp_path / "bad") == ()
    assert (tmp_path / "good" / "job.log").read_text() == f"{tmp_path / 'good'}\n"


def test_a_job_knows_its_nodes_and_its_end(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    code = (
        "import json; from workflow.batch.scheduler import this_job; from workflow.site import load_site; "
        "job = this_job(load_site('frontier')); print(json.dumps([job.job_id, job.nodes, job.end_time]))"
    )
    spec = job(site, tmp_path / "a", f'PYTHONPATH={ROOT} exec {sys.executable} -c "{code}"', nodes=3, minutes=2, queue="bin4")
    job_id = batch.submit(spec)
    done = ended(batch, job_id)
    log = spec.log.read_text()
    assert done.state is JobState.COMPLETED, log
    number, nodes, end = json.loads(log)
    assert number == job_id
    assert len(set(nodes)) == 3 and set(nodes) <= {f"n{i}" for i in range(1, 9)}
    assert end == pytest.approx((done.started or 0) + 120, abs=1.5)


def test_outside_a_job_there_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SiteError, match="SLURM_JOB_ID"):
        this_job(site)


def test_a_dependent_job_waits_for_the_end_however_it_comes(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    first = batch.submit(job(site, tmp_path / "a", f"{WAITS}; exit 5"))
    second = batch.submit(job(site, tmp_path / "b", "true", after=(first,)))
    orphan = batch.submit(job(site, tmp_path / "c", "true", after=("999999",)))
    assert ended(batch, orphan).state is JobState.COMPLETED
    assert row(batch, second).state is JobState.QUEUED
    assert row(batch, second).started is None
    (tmp_path / "a" / "go").touch()
    assert ended(batch, second).state is JobState.COMPLETED
    assert (row(batch, second).started or 0) >= (row(batch, first).ended or 0)


def test_held_and_cancelled_before_and_after_the_start(batch: Scheduler, site: Site, tmp_path: Path, slurm: Cluster) -> None:
    running = batch.submit(job(site, tmp_path / "a", WAITS))
    waiting = batch.submit(job(site, tmp_path / "b", "touch ran", after=(running,)))
    wait(lambda: row(batch, running).state is JobState.RUNNING)
    slurm.run("scontrol", "hold", waiting)
    wait(lambda: row(batch, waiting).state is JobState.HELD)
    end_by_name(batch, {waiting: "cb", running: "ca"}, {waiting: "ca", running: "cb"})
    before, after = ended(batch, waiting), ended(batch, running)
    assert (before.state, before.started) == (JobState.CANCELLED, None)
    assert after.state is JobState.CANCELLED and after.started is not None
    batch.cancel(running, "ca")
    batch.cancel("999999", "ca")
    assert not (tmp_path / "b" / "ran").exists()


def test_cancelled_in_its_first_second_and_cancelled_while_it_waited(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    """Queue and accounting show both with a start that equals the end; only one of them was ever given nodes."""

    def told(job_id: str) -> list[JobRow]:
        return [each for each in Kind(site)._accounting() if each.job_id == job_id]

    blocker = batch.submit(job(site, tmp_path / "a", WAITS, nodes=8, queue="bin1"))
    wait(lambda: row(batch, blocker).state is JobState.RUNNING)
    waiting = batch.submit(job(site, tmp_path / "b", "true", nodes=8, queue="bin1"))
    wait(lambda: bool(told(waiting)))
    batch.cancel(waiting, "cb")
    batch.cancel(blocker, "ca")
    ended(batch, blocker)
    brief = batch.submit(job(site, tmp_path / "c", WAITS))
    wait(lambda: row(batch, brief).state is JobState.RUNNING, every=0.05)
    batch.cancel(brief, "cc")
    for job_id, has_started in ((waiting, False), (brief, True)):
        done = ended(batch, job_id)
        wait(lambda job_id=job_id: [each.state for each in told(job_id)] == [JobState.CANCELLED])
        for each in (done, *told(job_id)):
            assert (each.state, each.started is not None) == (JobState.CANCELLED, has_started), each


def test_what_will_never_do_is_refused_for_good(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    wrong = {
        "account": site.model_copy(update={"account": "nobody"}),
        "partition": with_queue(site, {"partition": "nowhere"}),
        "qos": with_queue(site, {"partition": "batch", "qos": "premium"}),
        "feature": with_queue(site, {"partition": "batch", "constraint": "gpu"}),
        "option": with_scheduler(site, options={"arguments": ["--no-such-option"]}),
    }
    for name, other in wrong.items():
        refused_for_good(Kind(other), job(other, tmp_path / name, "true"))
    refused_for_good(batch, job(site, tmp_path / "nodes", "true", nodes=9))
    refused_for_good(batch, job(site, tmp_path / "time", "true", minutes=60 * 24))
    refused_for_good(batch, job(site, tmp_path / 'quote"', "true"))
    assert not [each for each in batch.snapshot().rows if each.workdir.startswith(str(tmp_path))]


def refused_for_good(batch: Scheduler, spec: scheduler.JobSpec) -> None:
    with pytest.raises(SchedulerError) as error:
        batch.submit(spec)
    assert not error.value.transient and not error.value.unknown, str(error.value)


def test_a_limit_is_refused_for_now(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    first = batch.submit(job(site, tmp_path / "a", WAITS, queue="debug"))
    with pytest.raises(SchedulerError) as error:
        batch.submit(job(site, tmp_path / "b", "true", queue="debug"))
    assert error.value.transient and not error.value.unknown
    batch.cancel(first, "ca")
    ended(batch, first)


def test_a_folder_may_be_called_anything_else(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    specs = [job(site, tmp_path / name, "pwd") for name in ("a b", "a#b", "a'b", "a%jb", "$HOME", "`id`", "ä")]
    for spec, job_id in [(spec, batch.submit(spec)) for spec in specs]:
        done = ended(batch, job_id)
        assert (done.state, done.workdir) == (JobState.COMPLETED, str(spec.workdir))
        assert spec.log.read_text() == f"{spec.workdir}\n"


def test_a_log_that_cannot_be_opened_is_a_matter_of_storage(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    spec = job(site, tmp_path / "a", "true")
    spec.log.mkdir()
    done = ended(batch, batch.submit(spec))
    assert (done.state, done.exit) == (JobState.FAILED, 73)


def test_a_users_variables_neither_hide_jobs_nor_change_them(
    batch: Scheduler, site: Site, tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SQUEUE_PARTITION": "extended",
        "SACCT_FORMAT": "JobID",
        "SBATCH_REQUEUE": "1",
        "SBATCH_TIMELIMIT": "9",
    }.items():
        monkeypatch.setenv(name, value)
    job_id = batch.submit(job(site, tmp_path / "a", WAITS))
    wait(lambda: row(batch, job_id).state is JobState.RUNNING)
    monkeypatch.delenv("SQUEUE_PARTITION")
    said = slurm.run("scontrol", "show", "job", job_id).split()
    assert {"Requeue=0", "TimeLimit=00:02:00", "Comment=ca"} <= set(said)
    batch.cancel(job_id, "ca")
    ended(batch, job_id)


def test_a_submission_without_an_answer_is_unknown_and_is_found_later(
    batch: Scheduler, site: Site, tmp_path: Path, slurm: Cluster
) -> None:
    spec = job(site, tmp_path / "a", "true")
    slurm.freeze("slurmctld")
    try:
        with pytest.raises(SchedulerError) as error:
            Kind(with_scheduler(site, command_timeout_s=3)).submit(spec)
    finally:
        slurm.thaw("slurmctld")
    assert error.value.unknown
    wait(lambda: bool(batch.snapshot().of(spec.token, spec.workdir)))
    (found,) = batch.snapshot().of(spec.token, spec.workdir)
    assert ended(batch, found.job_id).state is JobState.COMPLETED


def test_without_a_controller_there_is_no_snapshot_and_nothing_is_accepted(
    batch: Scheduler, site: Site, tmp_path: Path, slurm: Cluster
) -> None:
    slurm.kill("slurmctld")
    try:
        with pytest.raises(SchedulerError):
            batch.snapshot()
        with pytest.raises(SchedulerError) as error:
            batch.submit(job(site, tmp_path / "a", "true"))
        assert error.value.transient
    finally:
        slurm.revive("slurmctld")
    assert not batch.snapshot().of("ca", tmp_path / "a")


def test_without_accounting_ends_are_not_proven(batch: Scheduler, site: Site, tmp_path: Path, slurm: Cluster) -> None:
    failing = batch.submit(job(site, tmp_path / "a", f"{WAITS}; exit 3"))
    staying = batch.submit(job(site, tmp_path / "b", WAITS))
    wait(lambda: all(row(batch, each).state is JobState.RUNNING for each in (failing, staying)))
    slurm.kill("slurmdbd")
    try:
        (tmp_path / "a" / "go").touch()
        wait(lambda: row(batch, failing).state is not JobState.RUNNING)
        snapshot = batch.snapshot()
        states = {each.job_id: each.state for each in snapshot.rows}
        assert not snapshot.is_complete
        assert (states[failing], states[staying]) == (JobState.ENDING, JobState.RUNNING)
    finally:
        slurm.revive("slurmdbd")
    done = ended(batch, failing, 90)
    assert batch.snapshot().is_complete
    assert (done.state, done.exit) == (JobState.FAILED, 3)
    (tmp_path / "b" / "go").touch()
    assert ended(batch, staying).state is JobState.COMPLETED
