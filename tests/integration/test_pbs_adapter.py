"""The PBS adapter on the stand-in: what is submitted, seen, cancelled, refused, and what silence means."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from login import end_by_name, home_of, wait
from pbs.cluster import Pbs
from pbs.settings import NODES, USER
from pbs.world import OVERLAY
from slurm.world import ended, job, row, with_queue, with_scheduler

from workflow.batch import scheduler
from workflow.batch.pbs import Kind
from workflow.batch.scheduler import JobSpec, JobState, Scheduler, this_job
from workflow.errors import SchedulerError, SiteError
from workflow.site import Site, load_site

pytestmark = [pytest.mark.xdist_group("pbs"), pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
WAITS = 'cd "$PBS_O_WORKDIR"; touch began; while [ ! -e go ]; do sleep 0.1; done'


@pytest.fixture
def site(pbs: Pbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(OVERLAY, tmp_path)))
    return load_site("aurora")


@pytest.fixture
def batch(site: Site) -> Scheduler:
    return scheduler.for_site(site)


def small(site: Site, folder: Path, text: str, *, nodes: int = 1, minutes: float = 2, after: tuple[str, ...] = ()) -> JobSpec:
    return job(site, folder, text, nodes=nodes, minutes=minutes, queue="small" if nodes > 1 else "capacity", after=after)


def test_ends_are_told_apart_by_state_and_exit_code(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    texts = {"good": "echo $PBS_O_WORKDIR; exit 0", "bad": "exit 3", "killed": "kill -9 $$", "terminated": "kill -15 $$"}
    ids = {name: batch.submit(small(site, tmp_path / name, text, nodes=2)) for name, text in texts.items()}
    rows = {name: ended(batch, job_id) for name, job_id in ids.items()}
    assert {name: (each.state, each.exit) for name, each in rows.items()} == {
        "good": (JobState.COMPLETED, 0),
        "bad": (JobState.FAILED, 3),
        "killed": (JobState.FAILED, 137),
        "terminated": (JobState.FAILED, 143),
    }
    good = rows["good"]
    assert (good.token, good.workdir, good.nodes) == ("cgood", str(tmp_path / "good"), 2)
    assert good.started is not None and good.ended is not None
    assert int(good.submitted) <= good.started <= good.ended
    assert [each.job_id for each in batch.snapshot().of("cgood", tmp_path / "good")] == [ids["good"]]
    assert batch.snapshot().of("cgood", tmp_path / "bad") == ()
    assert (tmp_path / "good" / "job.log").read_text() == f"{tmp_path / 'good'}\n"


def test_a_job_knows_its_nodes_and_its_end(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    code = (
        "import json; from workflow.batch.scheduler import this_job; from workflow.site import load_site; "
        "job = this_job(load_site('aurora')); print(json.dumps([job.job_id, job.nodes, job.end_time]))"
    )
    spec = small(site, tmp_path / "a", f'PYTHONPATH={ROOT} exec {sys.executable} -c "{code}"', nodes=3)
    job_id = batch.submit(spec)
    done = ended(batch, job_id)
    log = spec.log.read_text()
    assert done.state is JobState.COMPLETED, log
    number, nodes, end = json.loads(log)
    assert number == job_id
    assert len(set(nodes)) == 3 and set(nodes) <= set(NODES)
    assert end == (done.started or 0) + 120


def test_outside_a_job_there_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBS_JOBID", raising=False)
    with pytest.raises(SiteError, match="PBS_JOBID"):
        this_job(site)


def test_a_dependent_job_waits_for_the_end_however_it_comes(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    first = batch.submit(small(site, tmp_path / "a", f"{WAITS}; exit 5"))
    second = batch.submit(small(site, tmp_path / "b", "true", after=(first,)))
    orphan = batch.submit(small(site, tmp_path / "c", "true", after=("999999.aurora-pbs",)))
    assert ended(batch, orphan).state is JobState.COMPLETED
    waiting = row(batch, second)
    assert (waiting.state, waiting.started) == (JobState.QUEUED, None), "held by the server, and by nobody else"
    (tmp_path / "a" / "go").touch()
    assert ended(batch, second).state is JobState.COMPLETED
    assert (row(batch, second).started or 0) >= (row(batch, first).ended or 0)
    late = batch.submit(small(site, tmp_path / "d", "true", after=(first, second)))
    assert ended(batch, late).state is JobState.COMPLETED, "what has ended keeps nobody waiting"


def test_held_and_cancelled_before_and_after_the_start(batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs) -> None:
    running = batch.submit(small(site, tmp_path / "a", WAITS))
    waiting = batch.submit(small(site, tmp_path / "b", 'touch "$PBS_O_WORKDIR/ran"', after=(running,)))
    wait((tmp_path / "a" / "began").exists)
    pbs.run("qhold", waiting)
    wait(lambda: row(batch, waiting).state is JobState.HELD)
    end_by_name(batch, {waiting: "cb", running: "ca"}, {waiting: "ca", running: "cb"})
    before, after = ended(batch, waiting), ended(batch, running)
    assert (before.state, before.started, before.exit) == (JobState.CANCELLED, None, None)
    assert (after.state, after.exit) == (JobState.CANCELLED, 143) and after.started is not None
    batch.cancel(running, "ca")
    batch.cancel("999999", "ca")
    assert not (tmp_path / "b" / "ran").exists()


def test_the_walltime_ends_a_job_late(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    job_id = batch.submit(small(site, tmp_path / "a", "trap 'echo TERM' TERM; while :; do sleep 0.1; done", minutes=1 / 60))
    done = ended(batch, job_id)
    assert (done.state, done.exit) == (JobState.TIMEOUT, None)
    assert "TERM" in (tmp_path / "a" / "job.log").read_text()
    assert "exceeded resource walltime" in done.reason


def test_what_will_never_do_is_refused_for_good(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    wrong = {
        "unknown": with_queue(site, {"queue": "nowhere"}),
        "closed": with_queue(site, {"queue": "visualization"}),
        "routed": with_queue(site, {"queue": "small"}),
        "filesystems": with_scheduler(site, options={}),
        "resource": with_scheduler(site, options={"filesystems": "flare", "arguments": ["-l colour=red"]}),
        "option": with_scheduler(site, options={"filesystems": "flare", "arguments": ["--no-such-option"]}),
    }
    for name, other in wrong.items():
        queue = other.queues[0].name
        refused_for_good(Kind(other), job(other, tmp_path / name, "true", queue=queue))
    debug = job(site, tmp_path / "time", "true", minutes=120, queue="debug")
    refused_for_good(batch, debug)
    refused_for_good(batch, job(site, tmp_path / "nodes", "true", nodes=3, queue="debug"))
    assert not [each for each in batch.snapshot().rows if each.workdir.startswith(str(tmp_path))]


def refused_for_good(batch: Scheduler, spec: JobSpec) -> None:
    with pytest.raises(SchedulerError) as error:
        batch.submit(spec)
    assert not error.value.transient and not error.value.unknown, str(error.value)


def test_a_limit_is_refused_for_now(batch: Scheduler, site: Site, tmp_path: Path) -> None:
    first = batch.submit(job(site, tmp_path / "a", WAITS, nodes=2, queue="debug-scaling"))
    with pytest.raises(SchedulerError) as error:
        batch.submit(job(site, tmp_path / "b", "true", nodes=2, queue="debug-scaling"))
    assert error.value.transient and not error.value.unknown
    batch.cancel(first, "ca")
    ended(batch, first)


def test_names_fit_releases_that_stop_at_fifteen_characters(batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs) -> None:
    pbs.change(name_limit=15)
    assert ended(batch, batch.submit(small(site, tmp_path / ("a" * 14), "true"))).state is JobState.COMPLETED
    refused_for_good(batch, small(site, tmp_path / ("a" * 15), "true"))


@pytest.mark.parametrize("name", ["a b", "a#b", "a'b", 'a"b', "a\\b", "$HOME", "`id`", "ä", "a,b"])
def test_a_folder_may_be_called_anything(batch: Scheduler, site: Site, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    says = """printf '%s\\n' "$PBS_O_WORKDIR\""""
    plain = small(site, tmp_path / "plain", says)
    odd = JobSpec("codd", tmp_path / name, tmp_path / name / "s.sh", tmp_path / name / "job.log", 1, 60, "capacity")
    lines = ["#!/bin/sh", *scheduler.directives(site, odd), says]
    odd.script.write_text("\n".join(lines) + "\n")
    for spec in (plain, odd):
        done = ended(batch, batch.submit(spec))
        assert (done.state, done.workdir) == (JobState.COMPLETED, str(spec.workdir))
        assert spec.log.read_text() == f"{spec.workdir}\n"


def test_variables_of_anybody_hide_no_job(
    batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older releases write them as they are: quotes, control characters, functions of a shell that end in a brace."""
    pbs.change(raw_variables=True)
    mine = batch.submit(small(site, tmp_path / "a", WAITS))
    monkeypatch.setenv("BASH_FUNC_module%%", '() {  eval "$(modulecmd bash "$@")"\n}')
    monkeypatch.setenv("PROMPT", '\x1b[1m"\\u"')
    (tmp_path / "other.sh").write_text("#!/bin/sh\nsleep 30\n")
    needs = f"-V -N other -A p -q debug -l walltime=60,filesystems=flare -j oe -o {tmp_path}"
    theirs = pbs.run("qsub", *needs.split(), str(tmp_path / "other.sh")).strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(pbs.run("qstat", "-x", "-f", "-F", "json"), strict=False)
    assert {mine, theirs} <= {each.job_id for each in batch.snapshot().rows}
    assert [each.job_id for each in batch.snapshot().of("ca", tmp_path / "a")] == [mine]


def test_a_users_number_is_no_surprise(batch: Scheduler, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "007")
    assert ended(batch, batch.submit(small(site, tmp_path / "a", "true"))).workdir == str(tmp_path / "a")


def test_a_job_that_no_destination_takes_is_accepted_and_vanishes(batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs) -> None:
    pbs.change(routes=False)
    spec = small(site, tmp_path / "a", "true", nodes=2)
    job_id = batch.submit(spec)
    assert row(batch, job_id).state is JobState.QUEUED
    wait(lambda: batch.snapshot().of(spec.token, spec.workdir) == ())
    batch.cancel(job_id, spec.token)


def test_a_submission_without_an_answer_is_unknown_and_is_found_later(
    batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs
) -> None:
    spec = small(site, tmp_path / "a", "true")
    pbs.change(freezes_at="qsub")
    with pytest.raises(SchedulerError) as error:
        Kind(with_scheduler(site, command_timeout_s=2)).submit(spec)
    assert error.value.unknown and pbs.is_frozen
    with pytest.raises(SchedulerError, match="no answer"):
        Kind(with_scheduler(site, command_timeout_s=1)).snapshot()
    pbs.change()
    pbs.thaw()
    (found,) = batch.snapshot().of(spec.token, spec.workdir)
    assert ended(batch, found.job_id).state is JobState.COMPLETED


def test_without_a_server_nothing_is_known_and_nothing_is_accepted(
    batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs
) -> None:
    running = batch.submit(small(site, tmp_path / "a", f"{WAITS}; exit 4"))
    wait((tmp_path / "a" / "began").exists)
    pbs.down()
    with pytest.raises(SchedulerError, match="255"):
        batch.snapshot()
    with pytest.raises(SchedulerError) as error:
        batch.submit(small(site, tmp_path / "b", "true"))
    assert error.value.transient and not error.value.unknown
    with pytest.raises(SchedulerError, match="255"):
        batch.cancel(running, "ca")
    (tmp_path / "a" / "go").touch()
    pbs.up()
    assert (ended(batch, running).state, row(batch, running).exit) == (JobState.FAILED, 4)
    assert not batch.snapshot().of("cb", tmp_path / "b")


OWN = f'"Job_Owner": "{USER}@uan"'


@pytest.mark.parametrize(
    "said",
    [
        *("", "no\n", '{"timestamp": 1, "Jobs": {"1.a": {"job_state": "R"', "[]", '{"Jobs": null}', '{"Jobs": {"1.a": 1}}'),
        f'{{"Jobs": {{"1.a": {{{OWN}, "job_state": null}}}}}}',
        f'{{"Jobs": {{"1.a": {{{OWN}, "job_state": "R", "Variable_List": "A=b"}}}}}}',
        f'{{"Jobs": {{"1.a": {{{OWN}, "job_state": "R", "Resource_List": {{"nodect": ""}}}}}}}}',
    ],
)
def test_what_is_no_answer_proves_nothing(batch: Scheduler, pbs: Pbs, said: str) -> None:
    pbs.change(garbage=said or "\n")
    with pytest.raises(SchedulerError):
        batch.snapshot()


@pytest.mark.parametrize("cgroups", [False, True])
def test_what_has_a_session_of_its_own_outlives_its_job_unless_the_site_contains_it(
    batch: Scheduler, site: Site, tmp_path: Path, pbs: Pbs, cgroups: bool
) -> None:
    pbs.change(cgroups=cgroups)
    beats = "setsid sh -c 'for i in $(seq 100); do echo $i > beat; sleep 0.1; done' &"
    spec = small(site, tmp_path / "a", f'cd "$PBS_O_WORKDIR"; {beats}\ntrap : TERM; touch began; while :; do sleep 0.1; done')
    job_id = batch.submit(spec)
    wait((spec.workdir / "began").exists)
    batch.cancel(job_id, spec.token)
    ended(batch, job_id)
    beat = (spec.workdir / "beat").read_text()
    time.sleep(1.0)
    assert ((spec.workdir / "beat").read_text() == beat) is cgroups
