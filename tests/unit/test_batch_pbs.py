"""The PBS adapter: exit codes before text, one query for all jobs, records of a real server."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from pbs.settings import USER

from model.outcome import Cause
from workflow.batch import command, pbs
from workflow.batch.causes import judge
from workflow.batch.scheduler import JobSpec, JobState, commands, for_site
from workflow.errors import SchedulerError, SiteError
from workflow.site import Site, load_site


@pytest.fixture
def site() -> Site:
    aurora = load_site("aurora")
    scheduler = aurora.scheduler.model_copy(update={"command_timeout_s": 2.0})
    return aurora.model_copy(update={"account": "gfm", "scheduler": scheduler})


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put programs on PATH that say what a test tells them to, and note how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, out: str = "", err: str = "", code: int = 0, sleep: float = 0) -> Path:
        (folder / f"{name}.out").write_text(out)
        (folder / f"{name}.err").write_text(err)
        body = f'#!/bin/sh\necho "$PWD $*" >> {folder}/{name}.calls\ncat {folder}/{name}.out\ncat {folder}/{name}.err >&2\n'
        (folder / name).write_text(f"{body}sleep {sleep}\nexit {code}\n")
        (folder / name).chmod(stat.S_IRWXU)
        return folder / f"{name}.calls"

    return put


def job(folder: Path, *after: str) -> JobSpec:
    folder.mkdir(exist_ok=True)
    return JobSpec("cabcdefghijklm", folder, folder / "job.sh", folder / "job.log", 2048, 43200, "large", after)


def test_a_job_is_handed_in_from_its_folder(site: Site, answers, tmp_path: Path) -> None:
    calls = answers("qsub", out="1.aurora-pbs\n")
    assert for_site(site).submit(job(tmp_path / "a")) == "1.aurora-pbs"
    assert calls.read_text() == f"{tmp_path}/a {tmp_path}/a/job.sh\n"


def test_a_job_waits_only_for_jobs_that_are_known(site: Site, answers, tmp_path: Path) -> None:
    calls = answers("qsub", out="3.s\n")
    answers("qstat", out=json.dumps({"Jobs": {each: {"job_state": "R"} for each in ("8.s", "9.s")}}))
    for_site(site).submit(job(tmp_path / "a", "7.s", "8.s", "9.s"))
    assert "-W depend=afterany:8.s:9.s " in calls.read_text()


@pytest.mark.parametrize("code", sorted(pbs._REFUSED))
def test_a_refusal_is_final(site: Site, answers, tmp_path: Path, code: int) -> None:
    answers("qsub", err="qsub: Job violates queue and/or server resource limits", code=code)
    with pytest.raises(SchedulerError, match="resource limits") as error:
        for_site(site).submit(job(tmp_path / "a"))
    assert not error.value.transient and not error.value.unknown


@pytest.mark.parametrize("code", sorted(pbs._NOT_NOW))
def test_a_limit_or_a_server_that_is_down_may_pass(site: Site, answers, tmp_path: Path, code: int) -> None:
    answers("qsub", err="qsub: would exceed queue generic's per-user limit", code=code)
    with pytest.raises(SchedulerError) as error:
        for_site(site).submit(job(tmp_path / "a"))
    assert error.value.transient and not error.value.unknown


@pytest.mark.parametrize("answer", [{"code": 99, "err": "who knows"}, {"out": "oops\n"}, {"out": ""}])
def test_what_cannot_be_read_leaves_open_whether_it_was_accepted(site: Site, answers, tmp_path: Path, answer: dict) -> None:
    answers("qsub", **answer)
    with pytest.raises(SchedulerError) as error:
        for_site(site).submit(job(tmp_path / "a"))
    assert error.value.unknown


@pytest.mark.parametrize("code", [0, 1, 32, 99, 162])
def test_an_id_counts_whatever_the_exit_code(site: Site, answers, tmp_path: Path, code: int) -> None:
    answers("qsub", out="7.aurora-pbs\nhave a nice day\n", err="qsub: oops", code=code)
    assert for_site(site).submit(job(tmp_path / "a")) == "7.aurora-pbs"


def test_no_answer_leaves_it_open_too(site: Site, answers, tmp_path: Path) -> None:
    answers("qsub", out="7.aurora-pbs\n", sleep=30)
    with pytest.raises(SchedulerError, match=r"7\.aurora-pbs") as error:
        for_site(site).submit(job(tmp_path / "a"))
    assert error.value.unknown


def test_the_exit_code_of_a_query_counts_before_its_text(site: Site, answers) -> None:
    answers("qstat", out='{"timestamp": 1, "pbs_server": "x"}', code=255)
    with pytest.raises(SchedulerError, match="255"):
        for_site(site).snapshot()


def test_no_jobs_at_all_is_an_answer(site: Site, answers) -> None:
    calls = answers("qstat", out='{"timestamp": 1, "pbs_server": "x"}')
    assert for_site(site).snapshot().rows == ()
    assert calls.read_text().split()[1:] == ["-x", "-f", "-F", "json"]


def test_text_that_is_no_json_is_no_answer(site: Site, answers) -> None:
    answers("qstat", out='{"timestamp": 1, "Jobs": {')
    with pytest.raises(SchedulerError, match="no JSON"):
        for_site(site).snapshot()


@pytest.mark.parametrize("said", [{"Jobs": None}, {"Jobs": []}, {"Jobs": {"5.s": None}}, [], None, 7])
def test_json_that_is_no_list_of_jobs_is_no_answer(site: Site, answers, tmp_path: Path, said: object) -> None:
    answers("qstat", out=json.dumps(said))
    with pytest.raises(SchedulerError, match="no JSON of jobs"):
        for_site(site).snapshot()
    with pytest.raises(SchedulerError) as error:
        for_site(site).submit(job(tmp_path / "a", "7.s"))
    assert error.value.transient and not error.value.unknown


@pytest.mark.parametrize(
    "odd",
    [
        {"job_state": None},
        {"job_state": ""},
        {"Variable_List": "PBS_O_WORKDIR=/a/b"},
        {"Resource_List": "nodect=2"},
        {"Resource_List": {"nodect": ""}},
        {"Resource_List": {"nodect": None}},
    ],
)
def test_a_job_of_ours_that_cannot_be_read_is_not_absent(site: Site, answers, odd: dict) -> None:
    own = {"Job_Name": "cabcdefghijklm", "Job_Owner": f"{USER}@uan", "job_state": "Q"}
    answers("qstat", out=json.dumps({"Jobs": {"5.s": {**own, **odd}}}))
    with pytest.raises(SchedulerError, match="no sense"):
        for_site(site).snapshot()
    answers("qstat", out=json.dumps({"Jobs": {"5.s": {**own, "Job_Owner": "somebody@uan", **odd}}}))
    assert for_site(site).snapshot().rows == ()


def test_a_job_without_a_state_is_not_absent(site: Site, answers) -> None:
    answers("qstat", out=json.dumps({"Jobs": {"5.s": {"Job_Owner": f"{USER}@uan"}}}))
    with pytest.raises(SchedulerError, match="job_state"):
        for_site(site).snapshot()


def test_a_state_of_a_later_release_counts_as_alive(site: Site, answers) -> None:
    own = {"Job_Name": "cabcdefghijklm", "Job_Owner": f"{USER}@uan", "job_state": "Z"}
    answers("qstat", out=json.dumps({"Jobs": {"5.s": own}}))
    (row,) = for_site(site).snapshot().rows
    assert row.state is JobState.RUNNING and row.ended is None


def test_unescaped_variables_of_users_hide_no_job(site: Site, answers) -> None:
    own = {"Job_Name": "cabcdefghijklm", "Job_Owner": f"{USER}@uan", "job_state": "Q"}
    text = json.dumps({"Jobs": {"5.s": {**own, "Variable_List": {"PBS_O_WORKDIR": "/a/b", "X": "HERE"}}}}, indent="\t")
    answers("qstat", out=text.replace("HERE", 'a "quoted" \\d\tword'))
    (row,) = for_site(site).snapshot().rows
    assert (row.job_id, row.workdir, row.state) == ("5.s", "/a/b", JobState.QUEUED)


@pytest.mark.parametrize("indent", ["\t", 4])
def test_exported_functions_of_a_shell_hide_no_job(site: Site, answers, indent: str | int) -> None:
    own = {"Job_Name": "cabcdefghijklm", "Job_Owner": f"{USER}@uan", "job_state": "Q"}
    behind = {"euser": USER, "Resource_List": {"nodect": 2}}
    jobs = {f"{n}.s": {**own, "Variable_List": {"F": "HERE", "PBS_O_WORKDIR": "/a/b"}, **behind} for n in (5, 6)}
    text = json.dumps({"Jobs": jobs}, indent=indent)
    answers("qstat", out=text.replace("HERE", '() { {\n\t\techo "$@"\n\t\t\t};\n            }\n}'))
    rows = for_site(site).snapshot().rows
    assert [(row.job_id, row.workdir, row.nodes) for row in rows] == [("5.s", "/a/b", 2), ("6.s", "/a/b", 2)]


def listed(*owners: str, **fields: object) -> str:
    """Return an answer with a job of each owner, in the server's form."""
    own = {"Job_Name": "cabcdefghijklm", "job_state": "Q", "Variable_List": {"PBS_O_WORKDIR": "/a/b"}}
    jobs = {f"{n}.s": {**own, "Job_Owner": f"{owner}@uan", **fields, "project": "p"} for n, owner in enumerate(owners, 1)}
    return json.dumps({"timestamp": 1, "Jobs": jobs}, indent="\t", separators=(",", ":\t"))


BROKEN = ('a "b', "back\\dslash", 'two\n\t\t\t"lines": {\n', '"')


@pytest.mark.parametrize("field", ["Submit_arguments", "comment"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_text_of_a_stranger_hides_no_job_of_ours(site: Site, answers, field: str, broken: str) -> None:
    me = USER
    text = listed(me, "ada", me, "bob", **{field: "HERE"})
    first, *others = text.split("HERE")
    answers("qstat", out=f"{first}fine{others[0]}{broken}{others[1]}fine{others[2]}{broken}{others[3]}")
    snapshot = for_site(site).snapshot()
    assert snapshot.is_complete and [(row.job_id, row.workdir) for row in snapshot.rows] == [("1.s", "/a/b"), ("3.s", "/a/b")]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_text_of_ours_is_left_out_or_the_answer_is_not_whole(site: Site, answers, tmp_path: Path, broken: str) -> None:
    me = USER
    answers("qstat", out=listed(me, me, Submit_arguments="HERE").replace("HERE", broken))
    assert [row.job_id for row in for_site(site).snapshot().rows] == ["1.s", "2.s"] and for_site(site).snapshot().is_complete
    answers("qstat", out=listed(me, me, comment="HERE").replace("HERE", broken, 1))
    snapshot = for_site(site).snapshot()
    assert [row.job_id for row in snapshot.rows] == ["2.s"] and not snapshot.is_complete
    calls = answers("qsub", out="9.s\n")
    for_site(site).submit(job(tmp_path / "a", "1.s", "7.s"))
    assert "-W depend=afterany:1.s " in calls.read_text(), "it is there, whatever its text"
    answers("qstat", out=listed(me, comment="HERE").replace("HERE", broken))
    deleted = answers("qdel")
    with pytest.raises(SchedulerError, match="no job"):
        for_site(site).cancel("1.s", "cabcdefghijklm")
    assert not deleted.exists()


@pytest.mark.parametrize(
    "change",
    [
        ("\n\t}\n}", ""),
        ("\n\t\t}\n\t}\n}", ""),
        ('"timestamp":\t1,\n\t"Jobs":', '"timestamp":\t1,\n\t"Work":'),
        ('"2.s"', '"1.s"'),
        ('\t\t"1.s":', '\t\t"S1.s":'),
    ],
)
def test_a_broken_answer_of_which_something_is_missing_proves_nothing(site: Site, answers, change: tuple[str, str]) -> None:
    text = listed("ada", USER, comment="HERE").replace("HERE", '"', 1)
    assert change[0] in text
    answers("qstat", out=text.replace(*change))
    with pytest.raises(SchedulerError, match="no JSON of jobs"):
        for_site(site).snapshot()


@pytest.mark.parametrize("change", [('"2.s"', '"S2.s"'), ("Job_Owner", "Owner")])
def test_what_is_of_nobody_known_may_be_ours(site: Site, answers, change: tuple[str, str]) -> None:
    text = listed("ada", USER, comment="HERE").replace("HERE", '"', 1)
    answers("qstat", out=text.replace(*change))
    assert not for_site(site).snapshot().is_complete


def test_a_job_that_waits_for_another_is_held_by_nobody(samples: Path) -> None:
    (job,) = pbs._parsed((samples / "pbs" / "held.json").read_text()).values()
    assert pbs._row("7.s", {**job, "substate": 22}).state is JobState.QUEUED


def test_jobs_of_others_are_not_ours(site: Site, answers) -> None:
    other = {"Job_Name": "cabcdefghijklm", "Job_Owner": "somebody@uan", "job_state": "R"}
    answers("qstat", out=json.dumps({"Jobs": {"5.s": other}}))
    assert for_site(site).snapshot().rows == ()


def test_jobs_are_known_by_the_user_of_the_process(site: Site, answers, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {f"{n}.s": {"Job_Owner": f"{name}@uan", "job_state": "R"} for n, name in enumerate((USER, "ada"))}
    answers("qstat", out=json.dumps({"Jobs": jobs}))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ada")
    assert [row.job_id for row in for_site(site).snapshot().rows] == ["0.s"]


def test_a_user_without_a_name_is_told_so(site: Site, answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers("qstat", out=json.dumps({"Jobs": {"5.s": {"Job_Owner": "ada@uan", "job_state": "R"}}}))
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    with pytest.raises(SchedulerError, match="user 3999999999 has no name here"):
        for_site(site).snapshot()


@pytest.mark.parametrize(
    ("code", "state", "cause"),
    [
        *((code, JobState.NODE_FAIL, Cause.NODE_FAILURE) for code in (-4, -5, -6, -14, -20, -30)),
        *((code, JobState.OUT_OF_MEMORY, Cause.OOM) for code in (-26, -27, -31)),
        *((code, JobState.FAILED, Cause.SCHEDULER) for code in (-1, -2, -3, -7, -10, -11, -17, -24, -32, -99)),
    ],
)
def test_the_servers_own_codes_are_no_defect_of_ours(samples: Path, code: int, state: JobState, cause: Cause) -> None:
    (job,) = pbs._parsed((samples / "pbs" / "failed_exit3.json").read_text()).values()
    row = pbs._row("7.s", {**job, "Exit_status": code})
    assert (row.state, row.exit) == (state, code)
    for started in (False, True):
        found, message = judge(row, started=started)
        assert found is cause and found.is_transient is (cause is not Cause.OOM)
        assert message.endswith(f"code is {code}")


def test_an_end_that_the_server_does_not_explain_is_no_defect_of_ours(samples: Path) -> None:
    """As where it lost sight of a job; one that was deleted while it waited has no code either, but its substate tells."""
    ((job_id, job),) = pbs._parsed((samples / "pbs" / "failed_exit3.json").read_text()).items()
    row = pbs._row(job_id, {name: value for name, value in job.items() if name != "Exit_status"})
    assert (row.state, row.exit) == (JobState.FAILED, None)
    assert judge(row, started=True) == (Cause.SCHEDULER, "it ended, and the batch system does not say how")


@pytest.mark.parametrize(
    ("record", "state", "code"),
    [
        ("queued", JobState.QUEUED, None),
        ("queued_just_submitted", JobState.QUEUED, None),
        ("queued_can_never_run", JobState.QUEUED, None),
        ("held", JobState.HELD, None),
        ("just_started", JobState.RUNNING, None),
        ("running", JobState.RUNNING, None),
        ("finished_ok", JobState.COMPLETED, 0),
        ("failed_exit3", JobState.FAILED, 3),
        ("killed9", JobState.FAILED, 137),
        ("walltime_exceeded", JobState.TIMEOUT, None),
        ("qdel_running", JobState.CANCELLED, 143),
        ("deleted_while_queued", JobState.CANCELLED, None),
    ],
)
def test_records_of_a_real_server(samples: Path, record: str, state: JobState, code: int | None) -> None:
    jobs = pbs._parsed((samples / "pbs" / f"{record}.json").read_text())
    row = pbs._row(*next(iter(jobs.items())))
    assert (row.state, row.exit) == (state, code)
    assert row.workdir == "/flare/proj/run" and row.nodes >= 1 and row.submitted > 1.79e9
    assert (row.ended is not None) == state.is_final
    assert (row.started is None) == (state in (JobState.QUEUED, JobState.HELD) or record == "deleted_while_queued")


def test_the_directives_of_a_job(site: Site, tmp_path: Path) -> None:
    text = "\n".join(pbs.directives(site, job(tmp_path / "a")))
    assert "#PBS -q prod\n" in text and "#PBS -l select=2048\n" in text and "#PBS -l walltime=12:00:00\n" in text
    assert "#PBS -l filesystems=home:flare\n" in text and "#PBS -r n\n" in text and "#PBS -A gfm\n" in text


def test_a_job_without_an_account_is_not_written(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="no account") as error:
        pbs.directives(site.model_copy(update={"account": None}), job(tmp_path / "a"))
    assert "aurora.yaml" in error.value.remedy


def test_a_job_knows_its_nodes_and_its_end(site: Site, answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    monkeypatch.setenv("PBS_JOBID", "5.s")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    known = {"job_state": "R", "stime": "Fri Nov 20 09:24:19 2026", "Resource_List": {"walltime": "00:10:00"}}
    answers("qstat", out=json.dumps({"Jobs": {"5.s": known}}))
    info = pbs.this_job(site)
    assert info.nodes == ("n1", "n2") and info.end_time == pbs._time("Fri Nov 20 09:34:19 2026")


def test_a_job_waits_for_a_server_that_restarts(site: Site, answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodes").write_text("n1\n")
    monkeypatch.setenv("PBS_JOBID", "5.s")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    known = {"job_state": "R", "stime": "Fri Nov 20 09:24:19 2026", "Resource_List": {"walltime": "00:10:00"}}
    said = [{"Jobs": {"5.s": {"job_state": "R", "Resource_List": "?"}}}, {"Jobs": {"5.s": known}}]
    answers("qstat", err="Connection refused", code=255)
    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=lambda _: answers("qstat", out=json.dumps(said.pop(0)))))
    assert pbs.this_job(site).end_time == pbs._time("Fri Nov 20 09:34:19 2026") and said == []


def test_outside_a_job_that_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBS_JOBID", raising=False)
    with pytest.raises(SiteError, match="PBS_JOBID"):
        pbs.this_job(site)


NAMED = json.dumps({"Jobs": {"5.s": {"Job_Name": "cabcdefghijklm", "job_state": "R"}}})


@pytest.mark.parametrize(("code", "fails"), [(0, False), (35, False), (153, False), (162, True)])
def test_only_a_server_that_is_down_leaves_a_cancel_undone(site: Site, answers, code: int, fails: bool) -> None:
    answers("qstat", out=NAMED)
    calls = answers("qdel", code=code, err="qdel: words")
    if fails:
        with pytest.raises(SchedulerError):
            for_site(site).cancel("5.s", "cabcdefghijklm")
    else:
        for_site(site).cancel("5.s", "cabcdefghijklm")
    assert calls.read_text().split()[1:] == ["5.s"]


@pytest.mark.parametrize(
    ("said", "fails"),
    [
        ({"out": NAMED.replace("cabcdefghijklm", "analysis")}, False),
        ({"code": 35}, False),
        ({"code": 153}, False),
        ({"code": 255, "out": NAMED}, True),
        ({"out": "{}"}, True),
        ({"out": NAMED[:-2]}, True),
    ],
)
def test_a_job_of_another_name_or_without_an_answer_is_not_ended(site: Site, answers, said: dict, fails: bool) -> None:
    answers("qstat", **said)
    calls = answers("qdel")
    if fails:
        with pytest.raises(SchedulerError) as error:
            for_site(site).cancel("5.s", "cabcdefghijklm")
        assert error.value.transient
    else:
        for_site(site).cancel("5.s", "cabcdefghijklm")
    assert not calls.exists()


def test_check_knows_its_programs(site: Site) -> None:
    assert commands(site) == ("qsub", "qstat", "qdel")


@pytest.mark.parametrize("name", ["a b#c", "a'b", 'a"b', "a\\b"])
def test_odd_folders_are_quoted_as_qsub_unquotes(site: Site, name: str, tmp_path: Path) -> None:
    lines = pbs.directives(site, job(tmp_path / name))
    written = next(line for line in lines if line.startswith("#PBS -o"))
    assert shlex.split(written.removeprefix("#PBS ")) == ["-o", f"{tmp_path / name}/job.log"]
