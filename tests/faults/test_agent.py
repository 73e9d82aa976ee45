"""What an allocation survives, and what it never leaves behind: the real agent, real ranks, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from allocation_world import ROOT, World, alive, heartbeat, until

from model.outcome import Cause, Status, read_json
from workflow.allocation.guard import descendants
from workflow.receipt import write_receipt
from workflow.rundir import AttemptDir


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def _wait_for_work(attempt: AttemptDir, task: str, ranks: int = 2) -> None:
    until(lambda: all((attempt.tasks / task / f"written.{rank}.log").exists() for rank in range(ranks)))


def _commands(pids: list[int]) -> str:
    return " ".join((Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ") for pid in pids)


def _rank_pid(attempt: AttemptDir, task: str, rank: int) -> int:
    return int((attempt.tasks / task / f"written.{rank}.log").read_text().split()[0])


@pytest.mark.parametrize("behaviour", ["stubborn", "stubborn-unwatched"])
def test_no_rank_outlives_a_killed_agent_though_it_ignores_term(world: World, behaviour: str) -> None:
    attempt = world.attempt(behaviour)
    agent = world.start(attempt)
    _wait_for_work(attempt, f"{behaviour}-0")
    started = descendants(agent.pid)
    assert "rank.py" in _commands(started) and "guard.py" in _commands(started)
    os.kill(agent.pid, signal.SIGKILL)
    until(lambda: not alive(started), timeout=8.0)  # the time to live; in fact it is milliseconds
    logs = list((attempt.tasks / f"{behaviour}-0").glob("written.*.log"))
    written = [path.read_bytes() for path in logs]
    time.sleep(0.5)
    assert [path.read_bytes() for path in logs] == written and len(logs) == 2
    assert not attempt.receipt.exists()


def test_no_rank_outlives_a_killed_guard(world: World) -> None:
    attempt = world.attempt("stubborn-unwatched")
    agent = world.start(attempt)
    _wait_for_work(attempt, "stubborn-unwatched-0")
    started = descendants(agent.pid)
    os.kill(started[0], signal.SIGKILL)
    agent.wait(60)
    assert not alive(started)
    assert read_json(attempt.receipt)["cause"] == Cause.NODE_FAILURE


def test_a_stopped_rank_is_a_stall_with_stacks_and_the_nodes_are_probed(world: World) -> None:
    world.periods = {"stalled_s": 2.0}
    attempt = world.attempt("work")
    agent = world.start(attempt)
    _wait_for_work(attempt, "work-0")
    os.kill(_rank_pid(attempt, "work-0", 1), signal.SIGSTOP)
    agent.wait(60)
    receipt = read_json(attempt.receipt)
    assert (receipt["status"], receipt["cause"]) == (Status.FAILED, Cause.STALLED), attempt.log.read_text()
    stacks = (attempt.tasks / "work-0" / "stacks.0.txt").read_text()
    assert "bcast" in stacks or "rank.py" in stacks
    probes = list((attempt.run / "probes").iterdir())
    assert len(probes) >= 2  # one at the start, one after the stall
    assert "quarantined" not in receipt["evidence"]


def test_the_deadline_asks_tasks_to_stop_and_the_link_is_partial(world: World) -> None:
    world.walltime_s = 20.0
    attempt = world.attempt("work")
    receipt = world.run(attempt)
    assert receipt.status is Status.PARTIAL, attempt.log.read_text()
    assert (attempt.tasks / "work-0" / "stop").exists()
    assert receipt.ended - receipt.started < world.walltime_s


def test_a_task_that_does_not_stop_is_ended_before_the_walltime_is_over(world: World) -> None:
    world.walltime_s = 20.0
    attempt = world.attempt("stubborn")
    receipt = world.run(attempt)
    assert (receipt.status, receipt.cause) == (Status.FAILED, Cause.WALLTIME)
    assert receipt.ended - receipt.started < world.walltime_s


@pytest.mark.parametrize("number", [None, signal.SIGUSR1])
def test_a_cancel_or_the_walltimes_signal_stops_in_order_before_the_end(world: World, number: signal.Signals | None) -> None:
    attempt = world.attempt("work")
    agent = world.start(attempt)
    _wait_for_work(attempt, "work-0")
    if number is None:
        attempt.stop.touch()
    else:
        os.kill(agent.pid, number)
    assert agent.wait(60) == 0
    receipt = read_json(attempt.receipt)
    assert (receipt["status"], receipt["cause"]) == (Status.PARTIAL, None)


@pytest.mark.parametrize("behaviour", ["work", "stubborn"])
def test_who_is_asked_to_end_from_outside_was_preempted_and_says_so(world: World, behaviour: str) -> None:
    attempt = world.attempt(behaviour)
    agent = world.start(attempt)
    _wait_for_work(attempt, f"{behaviour}-0")
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.wait(60) == 1
    receipt = read_json(attempt.receipt)
    assert (receipt["status"], receipt["cause"]) == (Status.FAILED, Cause.PREEMPTED), receipt
    assert receipt["evidence"]["stopped_by"] == "signal 15" and receipt["evidence"]["taken_s"] > 0
    assert (attempt.tasks / f"{behaviour}-0" / "stop").exists()


def test_a_revoked_attempt_ends_its_tasks_and_leaves_no_receipt(world: World) -> None:
    attempt = world.attempt("stubborn-unwatched")
    agent = world.start(attempt)
    _wait_for_work(attempt, "stubborn-unwatched-0")
    started = descendants(agent.pid)
    attempt.revoked.touch()
    assert agent.wait(60) == 3
    assert not alive(started) and not attempt.receipt.exists()


def test_an_attempt_runs_once(world: World) -> None:
    attempt = world.attempt("brief")
    assert world.run(attempt).status is Status.DONE
    before = attempt.receipt.read_bytes()
    assert world.start(attempt).wait(60) == 3
    assert attempt.receipt.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("crash", Cause.BUG),
        ("liar", Cause.LAUNCHER),
        ("raises", Cause.BUG),
        ("refuses", Cause.BAD_CONFIG),
        ("killed", Cause.NODE_FAILURE),
    ],
)
def test_a_failure_has_a_cause_and_evidence(world: World, kind: str, cause: Cause) -> None:
    attempt = world.attempt(kind)
    receipt = world.run(attempt)
    assert (receipt.status, receipt.cause) == (Status.FAILED, cause), receipt
    assert receipt.message
    if kind in ("raises", "refuses"):
        assert "scripted_agent.py" in (world.campaign / receipt.evidence["traceback"]).read_text()


def test_small_tasks_run_side_by_side_on_different_nodes(world: World) -> None:
    world.nodes = ("node1", "node2", "node3")
    attempt = world.attempt("brief+brief+brief+brief")
    receipt = world.run(attempt)
    assert receipt.status is Status.DONE
    assert {node for task in receipt.result["tasks"] for node in task["nodes"]} == set(world.nodes)
    last = heartbeat(attempt)
    assert last["nodes"] == {"free": 3, "busy": 0, "quarantined": 0, "spare": 0, "allocated": 3}
    assert last["phase"] == "ended" and set(last["tasks"]) == {f"brief-{i}" for i in range(4)}


def test_staged_files_stand_on_every_node_and_go_with_the_attempt(world: World) -> None:
    data = world.campaign / "stages" / "data"
    (data / "shard").mkdir(parents=True)
    (data / "manifest.json").write_text("{}")
    (data / "shard" / "0.bin").write_bytes(os.urandom(5000))
    attempt = world.attempt("stage-in")
    receipt = world.run(attempt)
    assert receipt.status is Status.DONE, receipt
    wanted = ["stages/data/manifest.json", "stages/data/shard/0.bin"]
    assert list(receipt.result["found"].values()) == [wanted, wanted]
    progress = receipt.result["progress"]
    assert (progress["done_files"], progress["skipped_files"], progress["nodes"]) == (4, 4, 2)  # the second time all stood there
    first, second = (read_json(path) for path in sorted(attempt.run.glob("staging/*/staged.json")))
    assert (first["done_bytes"], first["skipped_files"]) == (10_004, 0)
    assert second["skipped_files"] == 4 and 0 <= second["seconds"] <= second["elapsed_s"]
    assert not (world.campaign / "node-local" / "7").exists()


def test_copies_of_a_killed_attempt_are_removed_by_the_next(world: World) -> None:
    first = world.attempt("stubborn")
    agent = world.start(first, job="7")
    _wait_for_work(first, "stubborn-0")
    left = world.campaign / "node-local" / "7" / "node1" / "half.bin"
    left.parent.mkdir(parents=True)
    left.touch()
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    second = world.attempt("brief", number=2, previous=(str(first.root.relative_to(world.campaign)),))
    assert world.run(second, job="8").status is Status.DONE
    assert not left.exists()


def test_a_record_goes_on_over_attempts_and_a_thawed_writer_adds_nothing(world: World) -> None:
    first = world.attempt("record")
    world.run(first)
    paths = (str(first.root.relative_to(world.campaign)),)
    first.receipt.unlink()  # as if it had been killed before its receipt
    second = world.attempt("record", number=2, previous=paths)
    events = world.run(second).result["events"]
    assert [each["number"] for each in events] == [0, 1]
    with open(first.record, "ab") as file:
        file.write(b'{"seq":9,"event":"asked","number":99,"hash":"no"}\n')
    second.receipt.unlink()
    third = world.attempt("record", number=3, previous=(*paths, str(second.root.relative_to(world.campaign))))
    assert [each["number"] for each in world.run(third).result["events"]] == [0, 1, 2]


def test_a_link_of_a_finished_stage_ends_at_once(world: World) -> None:
    first = world.attempt("brief")
    receipt = world.run(first)
    second = world.attempt("stubborn", link=2, previous=(str(first.root.relative_to(world.campaign)),))
    again = world.run(second)
    assert (again.status, again.result, again.link) == (Status.DONE, receipt.result, 2)
    assert not second.tasks.exists()


def test_a_link_behind_a_bug_does_not_try_but_a_new_attempt_does(world: World) -> None:
    first = world.attempt("raises")
    world.run(first)
    previous = (str(first.root.relative_to(world.campaign)),)
    second = world.run(world.attempt("brief", link=2, previous=previous))
    assert (second.status, second.cause) == (Status.FAILED, Cause.BUG)
    assert world.run(world.attempt("brief", link=2, number=2, previous=previous)).status is Status.DONE


def test_a_partial_link_is_gone_on_with(world: World) -> None:
    first = world.attempt("brief")
    receipt = world.run(first)
    write_receipt(first.receipt, receipt.__class__(**{**vars(receipt), "status": Status.PARTIAL}))
    second = world.attempt("brief", link=2, previous=(str(first.root.relative_to(world.campaign)),))
    assert world.run(second).status is Status.DONE and second.tasks.exists()


def test_a_frozen_agent_loses_its_ranks_and_vanishes_when_it_thaws_revoked(world: World) -> None:
    world.periods = {"ttl_s": 3.0}
    attempt = world.attempt("stubborn")
    agent = world.start(attempt)
    _wait_for_work(attempt, "stubborn-0")
    ranks = [_rank_pid(attempt, "stubborn-0", rank) for rank in (0, 1)]
    os.kill(agent.pid, signal.SIGSTOP)
    until(lambda: not alive(ranks))
    written = (attempt.tasks / "stubborn-0" / "written.0.log").read_bytes()
    attempt.revoked.touch()
    os.kill(agent.pid, signal.SIGCONT)
    assert agent.wait(60) == 3 and not attempt.receipt.exists()
    assert (attempt.tasks / "stubborn-0" / "written.0.log").read_bytes() == written


def test_a_source_that_differs_from_its_receipt_ends_the_stage_for_good(world: World) -> None:
    data = world.campaign / "stages" / "data"
    data.mkdir(parents=True)
    (data / "a.bin").write_bytes(b"a")
    attempt = world.attempt("stage-in-wrong")
    receipt = world.run(attempt)
    assert (receipt.status, receipt.cause) == (Status.FAILED, Cause.BAD_CONFIG) and "a.bin" in receipt.message


WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="F F F"
O 0.0 0.0 0.1 0.0 0.0 0.1
H 0.0 0.8 -0.5 0.0 0.0 0.0
H 0.0 -0.8 -0.5 0.0 0.0 -0.1
"""


def test_a_real_command_runs_on_its_nodes_and_again_by_hand(world: World) -> None:
    first, *others = (world.campaign / f"{node}.xyz" for node in world.nodes)  # `{node}` is the rank's own node
    first.write_text(WATER)
    for other in others:
        other.hardlink_to(first)  # a source that differs between ranks has changed while it was read
    attempt = world.attempt("convert")
    receipt = world.run(attempt)
    assert receipt.status is Status.DONE, (receipt, attempt.log.read_text())
    assert receipt.result["hosts"] == ["node1", "node2"]
    task = attempt.tasks / "convert"
    (task / "outcome.json").unlink()
    done = subprocess.run(
        [str(task / "command.sh")],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert read_json(task / "outcome.json")["status"] == Status.DONE
    assert "owner: null" in (task / "by-hand.yaml").read_text() and "heartbeat" in (task / "config.yaml").read_text()
