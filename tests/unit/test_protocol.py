"""The protocol's decision table: every row, its order, and what it remembers."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest

from model.outcome import Cause, Status
from model.silence import Silence
from workflow.batch import protocol
from workflow.batch.attempt import Action, Attempt, Kind, Observation, Phase, Windows
from workflow.batch.causes import judge
from workflow.batch.protocol import TABLE, decide
from workflow.batch.scheduler import JobRow, JobState
from workflow.receipt import Receipt

W = Windows(unknown_s=120, absence_s=60, ttl_s=30, grace_s=90, backoff_s=300, poll_s=80)
NEW = Attempt("ctoken", W)
SUBMITTED = replace(NEW, phase=Phase.SUBMITTED, job_id="7")
RUNNING = replace(SUBMITTED, started=True)
UNKNOWN = replace(NEW, phase=Phase.UNKNOWN)
SETTLED = replace(RUNNING, phase=Phase.SETTLED)


def job(state: JobState, job_id: str = "7", code: int | None = None, submitted: float = 7.0) -> JobRow:
    started = None if state in (JobState.QUEUED, JobState.HELD) else 100.0
    return JobRow(job_id, "ctoken", "/w", state, code, "", submitted, started, 460.0 if state.is_final else None, 10)


def receipt(status: Status, cause: Cause | None = None) -> Receipt:
    return Receipt("ctoken", "train", 1, 1, status, cause, "said so", nodes=2, started=0.0, ended=1800.0)


def seen(*rows: JobRow, **facts: object) -> Observation:
    return Observation(**{"answered": True, "rows": rows, **facts})  # type: ignore[arg-type]


NO_ANSWER = Observation(answered=False)


class Story:
    """Observations one after another, as the executor would feed them."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.now = attempt, 1000.0

    def look(self, observation: Observation, after_s: float = 0.0) -> Action:
        self.now += after_s
        action = decide(self.attempt, observation, self.now)
        self.attempt = action.attempt
        return action

    def rows(self, observation: Observation, *after_s: float) -> list[str]:
        return [self.look(observation, each).row for each in after_s]


def test_a_new_attempt_is_searched_for_before_it_is_submitted() -> None:
    story = Story(NEW)
    assert story.look(NO_ANSWER).kind is Kind.WAIT
    assert story.look(seen()).kind is Kind.SUBMIT
    assert Story(NEW).look(seen(job(JobState.QUEUED))).kind is Kind.ADOPT


def test_a_refused_submission_is_tried_again_later() -> None:
    story = Story(protocol.refused(NEW, 1000.0))
    assert story.rows(seen(), 0, 299) == ["new; refused a moment ago"] * 2
    assert story.look(seen(), 1).kind is Kind.SUBMIT
    ended = protocol.rejected("no such account")
    assert (ended.status, ended.cause) == (Status.FAILED, Cause.BAD_CONFIG)


def test_an_unknown_submission_is_never_repeated_within_its_window() -> None:
    story = Story(protocol.unanswered(NEW))
    assert story.rows(seen(), 0, 60, 59) == ["not seen"] * 3
    assert story.look(seen(), 1).kind is Kind.SUBMIT


def test_one_absence_is_not_enough_however_late() -> None:
    assert Story(UNKNOWN).look(seen(), 10_000).kind is Kind.WAIT
    assert Story(SUBMITTED).look(seen(), 10_000).kind is Kind.WAIT
    story = Story(SUBMITTED)
    story.look(seen())
    assert story.look(seen()).kind is Kind.WAIT, "two looks at the same moment"


def test_a_sighting_while_accounting_is_silent_starts_the_search_anew_too() -> None:
    story = Story(SUBMITTED)
    story.look(seen())
    story.look(seen(job(JobState.QUEUED), answered=False), 30)
    assert story.rows(seen(), 40, 59) == ["not seen", "not seen"]
    assert story.look(seen(), 1).kind is Kind.FENCE


def test_a_sighting_between_two_absences_starts_the_search_anew() -> None:
    story = Story(SUBMITTED)
    story.look(seen())
    story.look(seen(job(JobState.QUEUED)), 50)
    assert story.rows(seen(), 50, 59) == ["not seen"] * 2
    assert story.look(seen(), 1).kind is Kind.FENCE


def test_an_outage_of_a_day_changes_nothing() -> None:
    for attempt in (NEW, UNKNOWN, SUBMITTED, RUNNING):
        story = Story(attempt)
        assert {story.look(replace(NO_ANSWER, fenced=attempt is RUNNING), 3600).kind for _ in range(24)} == {Kind.WAIT}
        assert (story.attempt.phase, story.attempt.job_id) == (attempt.phase, attempt.job_id)


def test_a_submitted_job_that_is_gone_is_barred_and_settled_as_lost() -> None:
    story = Story(SUBMITTED)
    assert [story.look(seen(), s).kind for s in (0, 60)] == [Kind.WAIT, Kind.FENCE]
    action = story.look(seen(fenced=True, barred=True))
    assert (action.kind, action.settled and action.settled.cause) == (Kind.SETTLE, Cause.SCHEDULER)


def test_a_started_job_that_is_gone_settles_only_when_its_heartbeat_stands_still() -> None:
    story = Story(RUNNING)
    for beat in range(20):
        assert story.look(seen(fenced=True, start_job="7", beat=beat), 20).kind is Kind.WAIT
    assert story.look(seen(fenced=True, start_job="7", beat=19), 29).kind is Kind.WAIT
    action = story.look(seen(fenced=True, start_job="7", beat=19), 1)
    assert (action.row, action.settled and action.settled.cause) == ("started; gone and silent", Cause.NODE_FAILURE)


def test_a_receipt_outranks_accounting_and_accounting_the_heartbeat() -> None:
    done = Story(RUNNING).look(seen(job(JobState.FAILED, code=9), receipt=receipt(Status.DONE), fenced=True, start_job="7"))
    assert done.settled is not None and done.settled.status is Status.DONE
    story = Story(RUNNING)
    rows = [story.look(seen(job(JobState.TIMEOUT), fenced=True, start_job="7", beat=n), 30).row for n in range(3)]
    assert rows == ["ended; a receipt may come"] * 2 + ["ended; no receipt came"]
    settled = story.attempt.settled
    assert settled is not None and (settled.cause, settled.node_hours) == (Cause.WALLTIME, 1.0)


def test_a_receipt_that_comes_late_is_waited_for() -> None:
    story = Story(RUNNING)
    ended = seen(job(JobState.COMPLETED, code=0), fenced=True, start_job="7")
    assert story.look(ended).kind is Kind.WAIT
    action = story.look(replace(ended, receipt=receipt(Status.PARTIAL)), 59)
    assert action.settled is not None and action.settled.status is Status.PARTIAL


def test_a_failed_receipt_settles_only_when_the_job_has_ended() -> None:
    story = Story(RUNNING)
    alive = seen(job(JobState.RUNNING), receipt=receipt(Status.FAILED, Cause.STALLED), fenced=True, start_job="7", beat=1)
    assert story.look(alive).row == "receipt; its job is ending"
    assert story.look(replace(NO_ANSWER, receipt=alive.receipt, fenced=True, start_job="7", beat=1), 500).kind is Kind.WAIT
    cancel = story.look(alive, 1)
    assert (cancel.kind, cancel.jobs) == (Kind.CANCEL, ("7",))
    gone = story.look(seen(job(JobState.CANCELLED), receipt=alive.receipt, fenced=True, start_job="7"), 1)
    assert gone.settled is not None and gone.settled.cause is Cause.STALLED


def test_a_job_that_never_leaves_ending_is_given_up_when_long_silent() -> None:
    story = Story(RUNNING)
    ending = seen(job(JobState.ENDING), fenced=True, start_job="7", beat=3)
    assert story.rows(ending, 0, 60, 59) == ["ending"] * 3
    assert story.look(ending, 1).row == "ends for ever; silent"
    story = Story(RUNNING)
    with_receipt = replace(ending, receipt=receipt(Status.PARTIAL))
    story.look(with_receipt)
    assert story.look(with_receipt, 120).row == "receipt; its job never ends"


def test_of_two_jobs_of_one_token_the_older_stays() -> None:
    two = seen(job(JobState.QUEUED, "9", submitted=9), job(JobState.QUEUED, "8", submitted=8))
    story = Story(UNKNOWN)
    assert story.look(two).jobs == ("8",)
    action = story.look(two)
    assert (action.row, action.kind, action.jobs) == ("more jobs than one", Kind.CANCEL, ("9",))
    assert story.look(two).kind is Kind.WAIT, "it was asked a moment ago"
    assert story.look(two, 90).kind is Kind.CANCEL, "the cancel was ignored"


def test_the_job_that_took_the_fence_is_the_attempt() -> None:
    rows = (job(JobState.COMPLETED, "7", code=0), job(JobState.RUNNING, "9", submitted=9))
    story = Story(RUNNING)
    assert story.look(seen(*rows, fenced=True, start_job="9")).jobs == ("9",)
    story = Story(RUNNING)
    twins = seen(job(JobState.RUNNING, "7"), job(JobState.QUEUED, "9", submitted=9), fenced=True, start_job="7")
    assert story.look(twins).jobs == ("9",)
    unknown = seen(job(JobState.RUNNING, "7"), job(JobState.RUNNING, "9", submitted=9), fenced=True)
    assert Story(RUNNING).look(unknown).kind is Kind.WAIT, "nobody knows yet which of them has the fence"


def test_a_job_requeued_by_the_site_after_its_end_is_cancelled() -> None:
    story = Story(SETTLED)
    assert story.look(seen(job(JobState.NODE_FAIL))).kind is Kind.WAIT
    other = story.look(seen(job(JobState.QUEUED, "9")))
    assert (other.row, other.jobs) == ("settled; a twin is alive", ("9",))
    same = story.look(seen(job(JobState.QUEUED)), 90)
    assert (same.row, same.jobs) == ("settled; its job lingers", ("7",))


def test_twins_that_turn_up_one_by_one_do_not_keep_a_job_that_lingers_alive() -> None:
    story, own, other = Story(SETTLED), job(JobState.RUNNING), job(JobState.QUEUED, "9", submitted=9)
    assert story.look(seen(own)).row == "settled"
    assert story.look(seen(own, other), 15).jobs == ("9",), "it may be ending by itself"
    assert story.look(seen(own, other), 90).jobs == ("9", "7")


def test_of_jobs_that_are_not_wanted_none_is_kept() -> None:
    story, twins = Story(replace(SUBMITTED, cancel=True)), (job(JobState.QUEUED), job(JobState.QUEUED, "9", submitted=9))
    assert story.look(seen(*twins)).kind is Kind.FENCE
    assert story.look(seen(*twins, barred=True)).jobs == ("7", "9")


def test_what_is_not_wanted_is_barred_before_it_starts() -> None:
    story = Story(replace(SUBMITTED, cancel=True))
    assert story.look(seen(job(JobState.QUEUED))).kind is Kind.FENCE
    barred = seen(job(JobState.QUEUED), fenced=True, barred=True)
    assert story.look(barred).kind is Kind.CANCEL
    assert story.look(barred, 89).kind is Kind.WAIT
    assert story.look(barred, 1).kind is Kind.CANCEL
    assert story.look(replace(NO_ANSWER, fenced=True, barred=True), 900).kind is Kind.WAIT
    action = story.look(seen(job(JobState.CANCELLED), fenced=True, barred=True))
    assert action.settled is not None and (action.settled.cause, action.settled.message) == (None, "cancelled before it started")


def test_what_was_never_submitted_is_given_up_without_the_scheduler() -> None:
    story = Story(replace(NEW, cancel=True))
    assert story.look(NO_ANSWER).kind is Kind.FENCE
    assert story.look(replace(NO_ANSWER, fenced=True, barred=True)).kind is Kind.SETTLE


def test_what_runs_is_asked_first_then_ended_and_confirmed_by_accounting() -> None:
    story = Story(replace(RUNNING, cancel=True))
    runs = seen(job(JobState.RUNNING), fenced=True, start_job="7", beat=1)
    assert [story.look(runs, s).kind for s in (0, 89, 1, 1, 89)] == [Kind.STOP, Kind.WAIT, Kind.CANCEL, Kind.WAIT, Kind.CANCEL]
    ended = replace(runs, rows=(job(JobState.CANCELLED),))
    assert story.look(ended).kind is Kind.WAIT
    action = story.look(ended, 60)
    assert action.settled is not None and (action.settled.cause, action.settled.message) == (None, "cancelled")


def test_a_running_job_whose_agent_fell_silent_is_ended() -> None:
    story = Story(RUNNING)
    runs = seen(job(JobState.RUNNING), fenced=True, start_job="7", beat=5)
    assert [story.look(runs, s).kind for s in (0, 59)] == [Kind.WAIT, Kind.WAIT]
    assert story.look(replace(runs, beat=6), 0).kind is Kind.WAIT
    assert [story.look(replace(runs, beat=6), s).kind for s in (59, 1, 60, 30)] == [
        Kind.WAIT,
        Kind.CANCEL,
        Kind.WAIT,
        Kind.CANCEL,
    ]
    ended = replace(runs, rows=(job(JobState.CANCELLED),), beat=6)
    story.look(ended)
    action = story.look(ended, 60)
    assert action.settled is not None and action.settled.cause is Cause.NODE_FAILURE


@pytest.mark.parametrize("before", [(0,), (0, 59)], ids=["at once", "amid a silence"])
def test_time_in_which_nobody_looked_is_no_silence(before: tuple[float, ...]) -> None:
    """What held up the driver may have held up the agent as well, and the driver may be the first to go on."""
    story = Story(RUNNING)
    runs = seen(job(JobState.RUNNING), fenced=True, start_job="7", beat=5)
    assert story.rows(runs, *before, 7200, 0.1) == ["running"] * (len(before) + 2)
    assert story.look(replace(runs, beat=6), 60).row == "running", "the agent goes on, a little later"
    assert story.rows(replace(runs, beat=6), 7200, 59, 7200, 1) == ["running"] * 3 + ["running; silent for long"]


def test_a_driver_that_is_slow_at_each_look_ends_a_silent_job_all_the_same() -> None:
    story = Story(RUNNING)
    runs = seen(job(JobState.RUNNING), fenced=True, start_job="7", beat=5)
    assert story.rows(runs, 0, 900, 900, 900) == ["running"] * 3 + ["running; silent for long"]


def test_one_look_ends_no_job_where_a_site_allows_few() -> None:
    story = Story(replace(RUNNING, windows=replace(W, poll_s=600)))
    runs = seen(job(JobState.RUNNING), fenced=True, start_job="7", beat=5)
    assert story.rows(runs, 0, 600, 600) == ["running"] * 2 + ["running; silent for long"]


@pytest.mark.parametrize("facts", [{"beat": None}, {"start_job": None}], ids=["heartbeat", "start file"])
def test_what_cannot_be_read_is_no_silence(facts: dict[str, None]) -> None:
    story = Story(RUNNING)
    runs = seen(job(JobState.RUNNING), **{"fenced": True, "start_job": "7", "beat": 5, **facts})
    assert {story.look(runs, s).kind for s in (0, 61, 600, 6000)} == {Kind.WAIT}


@pytest.mark.parametrize(
    ("state", "code", "started", "cause"),
    [
        (JobState.TIMEOUT, 143, True, Cause.WALLTIME),
        (JobState.NODE_FAIL, None, True, Cause.NODE_FAILURE),
        (JobState.PREEMPTED, None, True, Cause.PREEMPTED),
        (JobState.OUT_OF_MEMORY, 137, True, Cause.OOM),
        (JobState.CANCELLED, None, False, Cause.SCHEDULER),
        (JobState.COMPLETED, 0, False, Cause.SCHEDULER),
        (JobState.COMPLETED, 0, True, Cause.STORAGE),
        (JobState.FAILED, 73, False, Cause.STORAGE),
        (JobState.FAILED, 74, True, Cause.STORAGE),
        (JobState.FAILED, 127, False, Cause.BAD_CONFIG),
        (JobState.FAILED, 137, True, Cause.NODE_FAILURE),
        (JobState.FAILED, 3, True, Cause.NODE_FAILURE),
        (JobState.FAILED, -2, False, Cause.SCHEDULER),
        (JobState.FAILED, 1, True, Cause.BUG),
        (JobState.FAILED, None, False, Cause.SCHEDULER),
    ],
)
def test_causes_from_accounting(state: JobState, code: int | None, started: bool, cause: Cause) -> None:
    assert judge(job(state, code=code), started=started)[0] is cause


def test_random_sights_hit_every_row_and_keep_the_promises() -> None:
    hits: Counter[str] = Counter()
    for seed in range(1200):
        rng = random.Random(seed)
        unwanted, still = [replace(each, cancel=True) for each in (RUNNING, SUBMITTED)], Silence(1, 1000.0, 60.0, looks=2)
        story = Story(
            rng.choice([NEW, UNKNOWN, SUBMITTED, RUNNING, SETTLED, *unwanted, replace(RUNNING, silence=still)]),
        )
        if rng.random() < 0.2:
            story.attempt = replace(story.attempt, retry_at=1500.0)
        calm = seed % 2 == 0
        for _ in range(12):
            action = story.look(seen() if calm else observation(rng), rng.choice([0, 1, 30, 61, 130]))
            hits[action.row] += 1
            promise(action)
    assert {row.name for row in TABLE} == set(hits)


def observation(rng: random.Random) -> Observation:
    states = list(JobState)
    rows = tuple(
        job(rng.choice(states), number, code=0, submitted=float(number))
        for number in rng.choice([(), (), ("7",), ("7", "9"), ("9",)])
    )
    started = rng.choice([None, None, "7", "9"])
    barred = started is None and rng.random() < 0.2
    told = rng.choice([None, None, None, receipt(Status.DONE), receipt(Status.FAILED, Cause.STALLED)]) if started else None
    fenced = barred or started is not None or rng.random() < 0.3
    answered = rng.random() < 0.8
    return Observation(answered, rows if answered else (), told, fenced, barred, started, rng.choice([None, 1, 1]))


def promise(action: Action) -> None:
    if action.kind is Kind.SUBMIT:
        assert action.attempt.phase in (Phase.INTENT, Phase.UNKNOWN)
    if action.kind is Kind.SETTLE:
        assert action.settled is not None and action.attempt.phase is Phase.SETTLED
        assert action.settled.evidence.get("by")
        assert action.settled.cause is not None or action.settled.status is not Status.FAILED or action.attempt.cancel
    if action.kind is Kind.CANCEL:
        assert action.jobs


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in TABLE]
    assert all(a != b for a, b in itertools.combinations(names, 2))
