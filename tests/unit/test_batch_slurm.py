"""The Slurm adapter where no cluster can be made to say it: merged rows, odd states, the lines of a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.batch import slurm
from workflow.batch.command import Answer
from workflow.batch.scheduler import JobRow, JobSpec, JobState, directives, for_site
from workflow.errors import SchedulerError, SiteError
from workflow.site import Site, load_site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return load_site("frontier").model_copy(update={"account": "abc123"})


def spec(folder: str = "/lustre/a", **fields: object) -> JobSpec:
    path = Path(folder)
    return JobSpec(
        **{  # type: ignore[arg-type]
            "token": "ctoken",
            "workdir": path,
            "script": path / "script.sh",
            "log": path / "job.log",
            "nodes": 200,
            "walltime_s": 3601.0,
            "queue": "bin3",
            **fields,
        }
    )


def queue(
    state: str, reason: str = "None", began: str = "100", ended: str = "200", submitted: str = "50", given: str = "n[1-2]"
) -> JobRow:
    return slurm._queue_row(["7", submitted, state, reason, began, ended, "2", given, "ctoken", "/lustre/a"])


def accounting(
    state: str, code: str = "0:0", began: str = "100", ended: str = "200", submitted: str = "50", nodes: str = "2"
) -> JobRow:
    return slurm._accounting_row(["7", submitted, state, code, began, ended, nodes, "ctoken", "/lustre/a"])


def merged(*rows: JobRow | None) -> list[JobRow]:
    first, second = rows
    return list(slurm._merged([first] if first else [], [second] if second else []))


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CANCELLED by 1234", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("OUT_OF_ME+", JobState.OUT_OF_MEMORY),
        ("COMPLETI+", JobState.ENDING),
        ("BOOT_FAIL", JobState.NODE_FAIL),
        ("PREEMPTED", JobState.PREEMPTED),
        ("A_STATE_OF_A_LATER_RELEASE", JobState.RUNNING),
        ("", JobState.RUNNING),
    ],
)
def test_states_are_read_in_all_their_forms(word: str, state: JobState) -> None:
    assert slurm._state(word) is state


@pytest.mark.parametrize(
    ("code", "number"), [("0:0", 0), ("3:0", 3), ("0:9", 137), ("1:15", 143), ("0:53", 73), ("", None), ("x:y", None)]
)
def test_exit_codes(code: str, number: int | None) -> None:
    assert slurm._exit(code) == number


def test_accounting_tells_the_end_and_the_queue_the_life() -> None:
    assert merged(queue("RUNNING"), accounting("FAILED", "5:0"))[0].exit == 5
    (ending,) = merged(queue("COMPLETING"), accounting("COMPLETED"))
    assert ending.state is JobState.ENDING
    (running,) = merged(queue("RUNNING"), accounting("PENDING", began="Unknown", ended="Unknown"))
    assert (running.state, running.started, running.ended) == (JobState.RUNNING, 100.0, None)


def test_a_failure_waits_for_its_exit_code() -> None:
    assert merged(queue("FAILED"), None)[0].state is JobState.ENDING
    assert merged(queue("FAILED"), accounting("FAILED", "0:0", ended="Unknown"))[0].state is JobState.ENDING
    assert merged(queue("TIMEOUT"), None)[0].state is JobState.TIMEOUT


def test_a_job_that_only_accounting_has_is_over_or_never_was() -> None:
    assert merged(None, accounting("COMPLETED"))[0].state is JobState.COMPLETED
    assert merged(None, accounting("RUNNING", ended="Unknown"))[0].state is JobState.ENDING
    assert merged(None, accounting("PENDING", began="Unknown", ended="Unknown")) == []
    assert merged(None, accounting("PENDING", began="100", ended="Unknown"))[0].state is JobState.ENDING


def test_an_id_that_is_used_again_is_another_job() -> None:
    rows = merged(queue("PENDING", submitted="900"), accounting("FAILED", "1:0"))
    assert sorted((row.submitted, row.state) for row in rows) == [(50.0, JobState.FAILED), (900.0, JobState.QUEUED)]


def test_estimates_and_holds() -> None:
    assert queue("PENDING", given="").started is None
    assert queue("CONFIGURING").started is None
    assert queue("PENDING", "JobHeldUser").state is JobState.HELD
    assert queue("PENDING", "launch failed requeued held").state is JobState.HELD
    assert queue("CANCELLED").node_hours == pytest.approx(2 * 100 / 3600)


def test_a_job_has_started_if_nodes_were_given_to_it_however_soon_it_ended() -> None:
    for row in (queue("CANCELLED", began="200"), accounting("CANCELLED by 7", began="200")):
        assert (row.started, row.ended, row.node_hours) == (200.0, 200.0, 0.0)
    for row in (queue("CANCELLED", began="200", given=""), accounting("CANCELLED by 7", began="200", nodes="0")):
        assert (row.started, row.ended, row.node_hours) == (None, 200.0, 0.0)
    assert accounting("RUNNING", ended="Unknown", nodes="0").started == 100.0, "accounting may tell of its nodes later"


def test_a_job_of_another_name_breaks_no_row() -> None:
    text = "\x1f".join(["7", "1", "RUNNING", "None", "1", "2", "1", "n1", "a|b\tc", "/x y"]) + "\ngarbage\n"
    assert slurm._fields(text, 10) == [["7", "1", "RUNNING", "None", "1", "2", "1", "n1", "a|b\tc", "/x y"]]


def test_the_lines_of_a_script_say_everything(site: Site) -> None:
    assert directives(site, spec()) == (
        "#SBATCH --constraint=nvme",
        "#SBATCH --network=disable_rdzv_get",
        "#SBATCH --job-name=ctoken",
        "#SBATCH --comment=ctoken",
        "#SBATCH --account=abc123",
        "#SBATCH --partition=batch",
        "#SBATCH --nodes=200",
        "#SBATCH --time=61",
        "#SBATCH --chdir=/lustre/a",
        "#SBATCH --output=/lustre/a/job.log",
        "#SBATCH --signal=B:USR1@540",
        "#SBATCH --open-mode=append",
        "#SBATCH --exclusive",
        "#SBATCH --no-requeue",
        "#SBATCH --no-kill",
    )


def test_odd_folders_are_quoted_and_queues_are_named(site: Site) -> None:
    lines = directives(site, spec("/lustre/a b#%j", queue="debug"))
    assert {'#SBATCH --chdir="/lustre/a b#%j"', '#SBATCH --output="/lustre/a b#%%j/job.log"', "#SBATCH --qos=debug"} <= set(lines)


def test_the_walltime_signal_never_comes_before_the_agents_own_timer(site: Site) -> None:
    short = site.model_copy(update={"periods": site.periods.model_copy(update={"stop_margin_s": 60})})
    assert not [line for line in directives(short, spec()) if "signal" in line]
    brief = directives(site, spec(walltime_s=300.0))  # the agent stops it 150 s before its end
    assert "#SBATCH --signal=B:USR1@90" in brief


def test_without_an_account_it_says_where_to_write_it(site: Site) -> None:
    with pytest.raises(SiteError, match="no account") as error:
        directives(site.model_copy(update={"account": None}), spec())
    assert "frontier.yaml" in error.value.remedy


@pytest.mark.parametrize("folder", ['/lustre/a"b', "/lustre/a\\b", "/lustre/a\nb"])
def test_a_folder_that_accounting_would_garble_is_refused(site: Site, folder: str) -> None:
    with pytest.raises(SchedulerError, match="no working folder") as error:
        for_site(site).submit(spec(folder))
    assert not error.value.transient


@pytest.mark.parametrize(
    ("text", "transient", "unknown"),
    [
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            False,
            False,
        ),
        (
            "sbatch: error: QOSMaxNodePerJobLimit\nsbatch: error: Job violates accounting/QOS policy (job submit limit, …)",
            False,
            False,
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Job violates accounting/QOS policy (job submit limit, …)",
            True,
            False,
        ),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True, False),
        ("sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)", True, False),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True, True),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", True, True),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            True,
            True,
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
            True,
            False,
        ),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            "sbatch: error: invalid account or account/partition combination specified",
            False,
            False,
        ),
        ("sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information", False, False),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\nsbatch: error: oops", True, True),
        ("", True, True),
    ],
)
def test_refusals_are_sorted(site: Site, text: str, transient: bool, unknown: bool) -> None:
    with pytest.raises(SchedulerError) as error:
        slurm.Kind(site)._job_id(Answer(1, "", text), "/x")
    assert (error.value.transient, error.value.unknown) == (transient, unknown)


@pytest.mark.parametrize(
    ("code", "words", "fails"),
    [
        (0, "", False),
        (1, "scancel: error: Kill job error on job id 7: Invalid job id specified", False),
        (1, "scancel: error: Kill job error on job id 7: Job/step already completing or completed", False),
        (1, "scancel: error: No active jobs match ALL job filters, including: Name=ctoken", False),
        (1, "scancel: error: slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        (1, "", True),
    ],
)
def test_a_cancel_names_its_job_and_is_undone_only_without_an_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: int, words: str, fails: bool
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setenv("SCANCEL_STATE", "PENDING")

    def answer(argv: list[str], *_: object, environment: dict[str, str], **__: object) -> Answer:
        asked.append(argv)
        assert "SCANCEL_STATE" not in environment
        return Answer(code, "", words)

    monkeypatch.setattr(slurm, "ask", answer)
    batch = for_site(site)
    if fails:
        with pytest.raises(SchedulerError, match="scancel") as error:
            batch.cancel("7", "ctoken")
        assert error.value.transient
    else:
        batch.cancel("7", "ctoken")
    assert asked == [["scancel", "--me", "--name=ctoken", "7"]]


def test_an_id_counts_whatever_the_exit_code(site: Site) -> None:
    assert slurm.Kind(site)._job_id(Answer(1, "123;frontier\n", "sbatch: error: oops"), "/x") == "123"
