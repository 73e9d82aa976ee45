"""The batch system in memory: turns, nodes, limits, ends, and that a seed repeats its history."""

from __future__ import annotations

import random

import pytest

from workflow.batch.scheduler import JobState
from workflow.simulation.job import Ask, Happening, Job, Refused, Rules, What
from workflow.simulation.model import Model
from workflow.site import Limit

NODES = ("n1", "n2", "n3", "n4")


def names(happened: list[Happening]) -> list[tuple[float, str, str]]:
    return [(each.t, each.what.value, each.job.ask.name) for each in happened]


def ask(name: str, nodes: int = 1, **facts: object) -> Ask:
    return Ask(name, nodes, 100.0, **facts)  # type: ignore[arg-type]


def test_jobs_start_in_order_as_nodes_get_free_and_none_overtakes() -> None:
    model = Model(NODES)
    first, second, third = (model.submit(ask(name, nodes)) for name, nodes in (("a", 3), ("b", 2), ("c", 1)))
    assert names(model.advance(1.0)) == [(0.0, "started", "a")]
    assert first.nodes == NODES[:3] and model.free() == ["n4"]
    model.finish(first, 0)
    assert names(model.advance(2.0)) == [(1.0, "started", "b"), (1.0, "started", "c")]
    assert not set(second.nodes) & set(third.nodes)
    assert (first.state, first.ended, first.exit) == (JobState.COMPLETED, 1.0, 0)


def test_a_dependent_job_waits_however_the_other_ends_and_not_for_an_unknown_one() -> None:
    model = Model(NODES)
    first = model.submit(ask("a"))
    model.submit(ask("b", after=(first.id, "no such job")))
    assert names(model.advance(5.0)) == [(0.0, "started", "a")]
    model.finish(first, 3)
    assert first.state is JobState.FAILED
    assert names(model.advance(6.0)) == [(5.0, "started", "b")]


def test_the_walltime_is_noticed_late_asked_for_and_then_forced() -> None:
    model = Model(NODES, Rules(notice_s=10, kill_wait_s=5))
    job = model.submit(ask("a"))
    assert names(model.advance(109.0)) == [(0.0, "started", "a")]
    assert names(model.advance(200.0)) == [(110.0, "asked_to_end", "a"), (115.0, "killed", "a")]
    model.finish(job, 137)
    assert (job.state, job.ended, job.exit) == (JobState.TIMEOUT, 200.0, 137)


def test_a_cancel_ends_what_waits_at_once_and_asks_what_runs() -> None:
    model = Model(NODES)
    runs, waits = model.submit(ask("a", 4)), model.submit(ask("b"))
    model.advance(1.0)
    assert model.cancel(waits.id) and model.cancel(runs.id) and not model.cancel("no such job")
    assert names(model.advance(1.0)) == [(1.0, "ended", "b"), (1.0, "asked_to_end", "a")]
    model.finish(runs, 0)
    assert (runs.state, waits.state, waits.started) == (JobState.CANCELLED, JobState.CANCELLED, None)
    assert not model.cancel(runs.id)


def test_a_deaf_job_goes_on_and_one_that_lingers_never_ends() -> None:
    model = Model(NODES)
    deaf, lingering = model.submit(ask("a")), model.submit(ask("b"))
    model.advance(0.0)
    deaf.deaf = lingering.lingers = True
    model.cancel(deaf.id)
    assert model.advance(1000.0) == [Happening(100.0, What.ASKED_TO_END, lingering), Happening(110.0, What.KILLED, lingering)]
    model.finish(lingering, 137)
    assert (deaf.state, lingering.state) == (JobState.RUNNING, JobState.ENDING)
    assert len(model.free()) == 2, "the nodes of neither come back"
    model.leave_ending(lingering)
    assert lingering.state is JobState.TIMEOUT and len(model.free()) == 3


@pytest.mark.parametrize("kills", [True, False])
def test_a_dead_node_is_not_given_again_and_may_take_its_job_with_it(kills: bool) -> None:
    model = Model(NODES)
    job = model.submit(ask("a", 2))
    model.advance(1.0)
    assert model.fail_node("n1", kills_job=kills) is job
    assert [each.what for each in model.advance(1.0)] == ([What.KILLED, What.ENDED] if kills else [])
    assert job.state is (JobState.NODE_FAIL if kills else JobState.RUNNING)
    assert "n1" not in model.free()
    model.mend_node("n1")
    assert ("n1" in model.free()) is kills


def test_a_requeued_job_runs_again_under_its_own_id() -> None:
    model = Model(NODES)
    job = model.submit(ask("a"))
    model.advance(1.0)
    model.requeue(job)
    assert names(model.advance(2.0)) == [(1.0, "killed", "a"), (1.0, "started", "a")]
    assert job.runs == 2
    model.preempt(job)
    model.advance(2.0)
    model.finish(job, 143)
    assert job.state is JobState.PREEMPTED


def test_held_released_and_vanished() -> None:
    model = Model(NODES)
    held, gone = model.submit(ask("a", held=True)), model.submit(ask("b", 4))
    model.hold(gone)
    assert model.advance(1.0) == []
    model.vanish(gone)
    model.release(held)
    assert names(model.advance(2.0)) == [(1.0, "started", "a")]
    assert list(model.jobs) == [held.id]


def test_what_no_nodes_can_carry_waits_for_ever_and_holds_up_nobody() -> None:
    model = Model(NODES)
    never, other = model.submit(ask("a", 9, impossible=True)), model.submit(ask("b"))
    assert names(model.advance(1e6)) == [(0.0, "started", "b"), (100.0, "asked_to_end", "b"), (110.0, "killed", "b")]
    assert (never.state, never.eligible, other.runs) == (JobState.QUEUED, None, 1)
    model.cancel(never.id)
    assert never.state is JobState.CANCELLED


def test_limits_refuse_let_wait_and_bound_what_runs() -> None:
    limits = (Limit(queues=("q",), eligible=1, running=2, submitted=4),)
    model = Model(NODES, Rules(limits=limits, wait=lambda _, __: 10.0))
    for name in "abcd":
        model.submit(ask(name, queue="q"))
    with pytest.raises(Refused, match="4 jobs"):
        model.submit(ask("e", queue="q"))
    model.submit(ask("other", queue="r"))
    with pytest.raises(Refused, match="5 nodes"):
        model.submit(ask("large", 5))
    happened = names(model.advance(99.0))
    assert happened == [(10.0, "started", "a"), (10.0, "started", "other"), (20.0, "started", "b")], "one has its turn at a time"
    model.finish(next(iter(model.jobs.values())), 0)
    assert names(model.advance(99.0)) == [(99.0, "started", "c")]


def test_history_is_told_for_a_time() -> None:
    model = Model(NODES, Rules(history_s=50))
    job = model.submit(ask("a"))
    model.advance(0.0)
    model.finish(job, 0)
    model.advance(50.0)
    assert model.told() == [job]
    model.advance(51.0)
    assert model.told() == []


def test_a_seed_repeats_its_history() -> None:
    def history(seed: int) -> list[tuple[float, str, str]]:
        rules = Rules(wait=lambda rng, _: rng.expovariate(0.01))
        model, rng, told = Model(NODES, rules, seed), random.Random(seed), []
        for step in range(200):
            if rng.random() < 0.3:
                model.submit(ask(str(step), rng.randint(1, 4)))
            running = [job for job in model.jobs.values() if job.is_running]
            if running and rng.random() < 0.3:
                model.finish(rng.choice(running), 0)
            told += names(model.advance(10.0 * step))
            conserved(model, list(model.jobs.values()))
        return told

    assert history(1) == history(1) != history(2)


def conserved(model: Model, jobs: list[Job]) -> None:
    held = [node for job in jobs if job.state.has_started for node in job.nodes]
    assert sorted([*held, *model.free()]) == sorted(NODES)


def test_a_job_that_is_forgotten_counts_as_ended() -> None:
    model = Model(NODES)
    first = model.submit(ask("a"))
    model.advance(0.0)
    model.forget(first)
    assert model.told() == [first], "one that runs is not forgotten"
    second = model.submit(ask("b", after=(first.id,)))
    model.finish(first, 0)
    model.forget(first)
    assert model.told() == [second]
    assert names(model.advance(1.0)) == [(0.0, "started", "b")]
