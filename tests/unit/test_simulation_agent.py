"""The agent of a job in simulated time: what a node's death costs, with and without spares, and that no node-second is lost."""

from __future__ import annotations

import math
import random
from dataclasses import astuple

import pytest

from model.outcome import Cause, Status
from workflow.simulation.agent import Ended, Rights, SimulatedAgent, Times
from workflow.simulation.work import StageWork
from workflow.stages.base import Pieces

START_UP, NOTICE, RESTART, STOP, LIMIT = 100.0, 50.0, 150.0, 10_000.0, 10_600.0


def work(count: int, nodes: int, piece_s: float, slots: int, *, keeps: bool = True, enough: float = 1.0) -> StageWork:
    return StageWork(Pieces(count, nodes, keeps, enough=enough), slots, piece_s, 300.0)


def agent(
    todo: StageWork, nodes: int, spares: int = 0, *, tries: int = 3, is_last: bool = True, repeats: bool = False
) -> SimulatedAgent:
    times = Times(0.0, START_UP, RESTART, NOTICE, STOP, LIMIT)
    return SimulatedAgent([f"n{k}" for k in range(nodes)], spares, todo, times, Rights(tries, is_last, repeats))


def carried(made: SimulatedAgent, deaths: dict[float, str] | None = None) -> tuple[float, Ended]:
    """Carry a job to its end; return when and how it ended."""
    ahead = sorted((deaths or {}).items())
    while True:
        if ahead and ahead[0][0] <= made.due():
            now, node = ahead.pop(0)
            ended = made.advance(now) or made.fail(node)
        else:
            now = made.due()
            ended = made.advance(now)
        if ended is not None:
            return now, ended


def total(made: SimulatedAgent) -> float:
    return sum(astuple(made.spent))


def test_without_failures_nothing_is_lost_and_the_job_ends_with_its_work() -> None:
    made = agent(todo := work(1, 8, 2_000.0, 1), 10, spares=2)
    at, ended = carried(made)
    assert (at, ended.status) == (START_UP + 2_000.0, Status.DONE)
    assert todo.is_done
    assert astuple(made.spent) == (8 * 2_000.0, 0.0, 10 * START_UP + 2 * 2_000.0)


def test_work_that_does_not_fit_is_kept_for_the_next_link() -> None:
    made = agent(todo := work(1, 4, 20_000.0, 1), 4, is_last=False)
    assert carried(made) == (STOP, Ended(Status.PARTIAL))
    assert todo.kept == [STOP - START_UP]
    assert made.spent.lost == 0.0


def test_a_training_goes_on_from_its_checkpoint_on_a_spare() -> None:
    made = agent(todo := work(1, 8, 2_000.0, 1), 9, spares=1)
    at, ended = carried(made, {START_UP + 700.0: "n3"})  # 100 s after the second checkpoint
    assert ended.status is Status.DONE
    assert at == START_UP + 2_000.0 + 100.0 + RESTART
    assert made.spent.useful == 8 * 2_000.0
    assert made.spent.lost == 8 * (100.0 + RESTART) + 1 * (at - START_UP - 700.0)  # the dead node is paid for to the end
    assert total(made) == pytest.approx(9 * at)
    assert todo.is_done


def test_a_training_without_a_spare_ends_its_job_early() -> None:
    made = agent(todo := work(1, 8, 2_000.0, 1), 8)
    at, ended = carried(made, {START_UP + 700.0: "n3"})
    assert (at, ended.status, ended.cause, ended.node) == (START_UP + 700.0, Status.FAILED, Cause.NODE_FAILURE, "")
    assert todo.kept == [600.0]
    assert total(made) == 8 * at


def test_the_death_of_the_first_node_ends_the_job_when_it_is_noticed() -> None:
    made = agent(todo := work(1, 8, 2_000.0, 1), 9, spares=1)
    at, ended = carried(made, {START_UP + 700.0: "n0"})
    assert (at, ended.status, ended.node) == (START_UP + 700.0 + NOTICE, Status.FAILED, "n0")
    assert made.spent.useful == 8 * 600.0
    assert made.spent.lost == 8 * 100.0 + 9 * NOTICE
    assert todo.kept == [600.0]


def test_a_search_loses_the_trial_on_the_node_and_no_other() -> None:
    made = agent(todo := work(6, 4, 1_000.0, 2), 9, spares=1)
    at, ended = carried(made, {START_UP + 1_350.0: "n5"})  # one of the second pair, 50 s after a checkpoint
    assert ended.status is Status.DONE
    assert at == START_UP + 3_000.0 + 50.0 + RESTART
    assert made.spent.useful == 6 * 4 * 1_000.0
    assert made.spent.lost == 4 * (50.0 + RESTART) + (at - START_UP - 1_350.0)
    assert todo.is_done


def test_a_search_without_spares_goes_on_with_a_slot_less() -> None:
    made = agent(todo := work(4, 4, 1_000.0, 2), 8)
    at, ended = carried(made, {START_UP + 500.0: "n5"})  # the second trial had written 300 s
    assert ended.status is Status.DONE
    assert at == START_UP + 1_000.0 + 700.0 + 1_000.0 + 1_000.0
    assert made.spent.useful == 4 * 4 * 1_000.0
    slot_is_missed = at - 1_000.0 - START_UP - 500.0  # the other three nodes stand idle till no trial waits any more
    assert made.spent.lost == 4 * 200.0 + 3 * slot_is_missed + (at - START_UP - 500.0)
    assert total(made) == pytest.approx(8 * at)
    assert todo.is_done


def test_a_piece_is_tried_so_often_in_one_job() -> None:
    made = agent(work(1, 2, 5_000.0, 1), 6, spares=4, tries=2)
    at, ended = carried(made, {200.0: "n1", 1_000.0: "n2"})
    assert (at, ended.status, ended.cause) == (1_000.0, Status.FAILED, Cause.NODE_FAILURE)


def test_a_spare_that_dies_costs_no_work() -> None:
    made = agent(work(1, 2, 1_000.0, 1), 3, spares=1)
    at, ended = carried(made, {600.0: "n2"})
    assert (at, ended.status) == (START_UP + 1_000.0, Status.DONE)
    assert made.spent.lost == at - 600.0


def test_a_node_dies_once() -> None:
    made = agent(work(1, 2, 1_000.0, 1), 4, spares=2)
    made.advance(START_UP)
    assert made.fail("n1") is None
    before = made.due()
    assert made.fail("n1") is None
    assert made.due() == before
    assert len(made.failed_at) == 1


def test_what_keeps_nothing_begins_anew() -> None:
    made = agent(todo := work(1, 2, 1_000.0, 1, keeps=False), 3, spares=1)
    at, ended = carried(made, {START_UP + 900.0: "n1"})
    assert (at, ended.status) == (START_UP + 900.0 + RESTART + 1_000.0, Status.DONE)
    assert made.spent.lost == 2 * (900.0 + RESTART) + (at - START_UP - 900.0)
    assert todo.is_done


def test_the_start_up_of_a_job_that_takes_up_a_broken_one_is_that_failures_cost() -> None:
    made = agent(work(1, 2, 1_000.0, 1), 2, repeats=True)
    carried(made)
    assert (made.spent.lost, made.spent.idle) == (2 * START_UP, 0.0)


@pytest.mark.parametrize(("enough", "is_last", "status"), [(0.4, True, "done"), (0.4, False, "partial"), (0.6, True, "partial")])
def test_a_part_suffices_when_the_links_run_out(enough: float, is_last: bool, status: str) -> None:
    one = agent(work(1, 2, 2 * (STOP - START_UP), 1, enough=enough), 2, is_last=is_last)
    assert carried(one)[1].status == status
    many = agent(work(4, 1, (STOP - START_UP) / 2, 1, enough=enough), 1, is_last=is_last)
    assert carried(many)[1].status == status


def test_whole_pieces_count_where_there_are_several() -> None:
    made = agent(work(2, 1, 1.5 * STOP, 2, enough=0.5), 2)
    assert carried(made)[1].status is Status.PARTIAL  # both are two thirds done, none is whole


@pytest.mark.parametrize("seed", range(200))
def test_every_node_second_is_booked_once_whatever_dies(seed: int) -> None:
    rng = random.Random(seed)
    nodes, each = rng.randint(1, 24), rng.randint(1, 6)
    spares = rng.randint(0, nodes - 1)
    each = min(each, nodes - spares)
    slots = (nodes - spares) // each
    todo = work(rng.randint(1, 12), each, rng.uniform(50.0, 4_000.0), slots, keeps=rng.random() < 0.8)
    made = agent(todo, nodes, spares, is_last=rng.random() < 0.5, repeats=rng.random() < 0.5)
    deaths = {rng.uniform(0.0, STOP): f"n{rng.randrange(nodes)}" for _ in range(rng.randint(0, 8))}
    at, ended = carried(made, deaths)
    assert total(made) == pytest.approx(nodes * at)
    assert made.spent.useful == pytest.approx(each * sum(todo.kept), abs=1e-3)
    assert min(astuple(made.spent)) >= -1e-6
    assert at <= LIMIT
    assert (ended.status is Status.DONE) >= todo.is_done
    assert all(0.0 <= kept <= todo.piece_s + 1e-6 for kept in todo.kept)
    assert math.isfinite(at)
