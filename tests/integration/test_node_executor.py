"""Tasks of mixed sizes as Parsl apps on virtual nodes: none is lost, none waits for ever, bad nodes step aside."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.outcome import CampaignError, Cause, Status
from workflow.allocation.deadline import Deadline
from workflow.allocation.executor import Kernel, NodePoolExecutor
from workflow.allocation.health import Probe
from workflow.allocation.launch import LAUNCHERS, Launcher, Setting
from workflow.allocation.nodes import NodePool
from workflow.allocation.task import TaskLaunch, TaskRunner
from workflow.site import Periods, load_site
from workflow.stages.base import TaskResult

PERIODS = Periods(heartbeat_s=0.1, ttl_s=3.0, stop_margin_s=4.0, stalled_s=30.0, kill_after_s=1.0)
REPORT = """
import json, os
from mpi4py import MPI
world = MPI.COMM_WORLD
hosts = sorted(set(world.allgather(os.environ["LOCAL_NODE"])))
if world.rank == 0:
    json.dump({"status": "done", "world_size": world.size, "hosts": hosts}, open("outcome.json", "w"))
"""
SITE_LAUNCHER = """#!/bin/sh
# A machine of named nodes: `black` answers and fails everything, `dead` fails even the sign of life.
hosts=$1; shift
grep -q dead "$hosts" && exit 233
grep -q black "$hosts" && [ "$1" != true ] && exit 1
[ "$1" = true ] || printf '{"status": "done", "world_size": %d, "hosts": ["%s"]}' \\
  "$(wc -l < "$hosts")" "$(sed -z 's/\\n$//; s/\\n/", "/g' "$hosts")" > outcome.json
"""


class Bench:
    def __init__(self, folder: Path, names: tuple[str, ...], spares: int, launcher: Launcher, length_s: float) -> None:
        self.folder = folder
        node = load_site("local").node
        setting = Setting(launcher, (), node, dict(os.environ))
        self.pool = NodePool(names, spares)
        self.deadline = Deadline(time.time() + length_s, PERIODS.stop_margin_s, PERIODS.kill_after_s)
        self.runner = TaskRunner(setting, PERIODS, self.pool, self.deadline, Probe(setting, folder / "probes", PERIODS.ttl_s))
        self.executor = NodePoolExecutor(self.pool, self.runner, max_calls=4)
        self.kernel = Kernel(self.executor, folder / "parsl")

    def task(
        self, name: str, nodes: int, *argv: str, estimate_s: float = 0.0, needs: tuple[Future[object], ...] = ()
    ) -> Future[TaskResult]:
        folder = self.folder / name
        folder.mkdir()
        return self.kernel.task(TaskLaunch(name, folder, argv, nodes, 1, estimate_s=estimate_s), needs)


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(
        names: tuple[str, ...], spares: int = 0, launcher: Launcher = LAUNCHERS["mpiexec"], length_s: float = 300.0
    ) -> Bench:
        made.append(Bench(tmp_path, names, spares, launcher, length_s))
        return made[-1]

    yield make
    for each in made:
        each.kernel.close()
        counts = each.pool.counts
        assert counts.busy == 0 and counts.free + counts.spare + counts.quarantined == counts.allocated


FOUR = ("node1", "node2", "node3", "node4")


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (1, 2, 4, 1, 1, 4, 2, 1, 2, 4)])
def test_every_task_of_a_backlog_ends_on_the_nodes_it_asked_for(bench: Make, sizes: tuple[int, ...]) -> None:
    here = bench(FOUR)
    results = [future.result(60) for future in [here.task(f"t{i}", n, sys.executable, "-c", REPORT) for i, n in enumerate(sizes)]]
    assert [result.status for result in results] == [Status.DONE] * len(sizes), results
    assert [len(result.nodes) for result in results] == list(sizes)
    assert [result.outcome.world_size for result in results if result.outcome] == list(sizes)


def test_a_task_waits_for_what_it_needs_even_in_a_list(bench: Make) -> None:
    here = bench(FOUR)
    first = here.task("first", 1, sys.executable, "-c", "import time; time.sleep(0.3); open('made', 'w')")
    second = here.task(
        "second", 1, sys.executable, "-c", f"open({str(here.folder / 'first' / 'made')!r}); " + REPORT, needs=(first,)
    )
    assert second.result(60).status is Status.DONE


def test_a_need_that_fails_is_told_and_nothing_runs(bench: Make) -> None:
    here = bench(FOUR)
    need: Future[object] = Future()
    task = here.task("task", 1, sys.executable, "-c", REPORT, needs=(need,))
    need.set_exception(OSError("the copy failed"))
    result = task.result(60)
    assert (result.status, result.cause) == (Status.FAILED, Cause.STORAGE) and "could not be made ready" in result.message
    assert not (result.folder / "outcome.json").exists()


def test_a_missing_command_is_a_failure_not_a_hang(bench: Make) -> None:
    result = bench(FOUR).task("gone", 2, "/no/such/command").result(60)
    assert (result.status, result.cause) == (Status.FAILED, Cause.LAUNCHER)


def test_a_task_larger_than_the_allocation_fails_at_once(bench: Make) -> None:
    result = bench(FOUR).task("large", 5, "true").result(60)
    assert result.cause is Cause.BAD_CONFIG and "5 nodes of 4" in result.message


def test_what_waits_is_looked_at_under_the_lock_alone(bench: Make) -> None:
    here = bench(FOUR)
    seen: list[str] = []

    class Guarded(dict[str, Any]):
        """Other threads put tasks in: whoever goes over them without the lock meets a dictionary that changes."""

        def items(self) -> Any:
            assert here.executor._lock.locked()
            seen.append("items")
            return super().items()

        def __iter__(self) -> Iterator[str]:
            assert here.executor._lock.locked()
            seen.append("names")
            return super().__iter__()

    here.executor._waiting = Guarded(here.executor._waiting)
    tasks = [here.task(f"t{k}", 1, "true") for k in range(3)]
    assert all(each.result(60).nodes for each in tasks)  # they ran: the dispatcher did not fail them all
    here.executor.shutdown()
    assert {"items", "names"} <= set(seen)


def test_what_does_not_fit_before_the_deadline_is_not_started(bench: Make) -> None:
    here = bench(FOUR)
    result = here.task("long", 1, "true", estimate_s=1000.0).result(60)
    assert (result.cause, result.nodes) == (Cause.WALLTIME, ()) and "1000 s" in result.message


def test_waiting_tasks_are_told_when_the_deadline_comes(bench: Make) -> None:
    here = bench(("node1",))
    running = here.task("running", 1, "sleep", "60")
    waiting = here.task("waiting", 1, "true")
    while not here.pool.nodes_of("running"):
        time.sleep(0.02)
    here.deadline.advance("cancelled")
    result = waiting.result(60)
    assert (result.cause, result.nodes) == (Cause.WALLTIME, ()) and "cancelled" in result.message
    assert running.result(60).cause is Cause.WALLTIME


def test_closing_leaves_no_future_open(bench: Make) -> None:
    here = bench(("node1",))
    futures = [here.task(f"t{i}", 1, "sleep", "60") for i in range(3)]
    while not here.pool.nodes_of("t0"):
        time.sleep(0.02)
    here.executor.shutdown()
    futures.append(here.task("late", 1, "true"))
    assert [future.result(20).cause for future in futures] == [Cause.PREEMPTED] * 4
    assert not [each for each in threading.enumerate() if each.name.startswith("task ")]


def test_never_more_calls_at_once_than_allowed(bench: Make) -> None:
    here = bench(tuple(f"node{i}" for i in range(8)))
    futures = [here.task(f"t{i}", 1, sys.executable, "-S", "-c", "import time; time.sleep(0.2)") for i in range(8)]
    most = 0
    while not all(future.done() for future in futures):
        most = max(most, here.pool.counts.busy)
        time.sleep(0.01)
    assert most == 4


def test_a_hundred_calls_are_the_most_unless_told_otherwise() -> None:
    here = Crowd()
    executor = NodePoolExecutor(NodePool([f"n{i}" for i in range(250)]), here)
    executor.start()
    futures: list[Future[TaskResult]] = [Future() for _ in range(250)]
    for i, future in enumerate(futures):
        executor.enqueue(TaskLaunch(f"t{i}", Path(f"t{i}"), ("x",)), future)
    here.await_all(100)
    here.go_on.set()
    assert {future.result(60).status for future in futures} == {Status.DONE}
    executor.shutdown()
    assert (here.most, here.total) == (100, 250)


class Crowd:
    """A runner whose tasks wait for one another, and that counts them."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self.go_on = threading.Event()
        self._changed = threading.Condition()

    def refusal(self, launch: TaskLaunch) -> str:
        return ""

    def run(self, launch: TaskLaunch, nodes: tuple[str, ...], settle: object) -> TaskResult:
        self._count(1)
        self.go_on.wait(60)
        self._count(-1)
        return TaskResult(launch.name, launch.folder, Status.DONE, None, "", None, nodes, 0.0)

    def end(self) -> None:
        self.go_on.set()

    def await_all(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.now >= number, 60)

    def _count(self, change: int) -> None:
        with self._changed:
            self.now += change
            self.total += max(change, 0)
            self.most = max(self.most, self.now)
            self._changed.notify_all()


@pytest.fixture
def named_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    program = tmp_path / "bin" / "launch-on-named-nodes"
    program.parent.mkdir()
    program.write_text(SITE_LAUNCHER)
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Launcher(program.name, ("{hosts}",))


def test_a_dead_node_is_found_by_its_probe_and_a_spare_steps_in(bench: Make, named_nodes: Launcher) -> None:
    here = bench(("n1", "dead", "n3", "n4"), spares=1, launcher=named_nodes)
    first = here.task("first", 3, "work").result(60)
    assert first.cause is Cause.NODE_FAILURE and "dead" in first.message
    assert here.pool.quarantined == ["dead"]
    second = here.task("second", 3, "work").result(60)
    assert second.status is Status.DONE and set(second.nodes) == {"n1", "n3", "n4"}


def test_a_node_that_answers_and_fails_everything_is_voted_out(bench: Make, named_nodes: Launcher) -> None:
    here = bench(("n1", "black", "n3", "n4"), launcher=named_nodes)
    results = [here.task(f"t{i}", 1, "work").result(60) for i in range(12)]
    assert here.pool.quarantined == ["black"]
    assert [result.nodes for result in results if result.status is Status.FAILED] == [("black",)] * 2


def test_many_tasks_that_fail_at_once_share_the_calls_that_look_for_silent_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = tmp_path / "now", tmp_path / "seen"
    now.mkdir()
    program = tmp_path / "launch-and-count"
    program.write_text(f"#!/bin/sh\nmkdir {now}/$$\nls {now} | wc -l >> {seen}\nsleep 0.1\nrmdir {now}/$$\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    setting = Setting(Launcher(program.name, ("{hosts}",)), (), load_site("local").node, dict(os.environ))
    probe = Probe(setting, tmp_path / "probes", 60.0, at_once=3)
    groups = [tuple(f"n{i}.{k}" for k in range(3)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(probe, groups)) == [list(group) for group in groups]
    counts = [int(line) for line in seen.read_text().split()]
    assert len(counts) == 4 * (1 + 3 + 3) and max(counts) <= 3


def test_a_task_that_no_longer_fits_is_told_not_kept(bench: Make, named_nodes: Launcher) -> None:
    here = bench(("n1", "dead"), launcher=named_nodes)
    assert here.task("first", 2, "work").result(60).cause is Cause.NODE_FAILURE
    result = here.task("second", 2, "work").result(60)
    assert (result.cause, result.nodes) == (Cause.NODE_FAILURE, ()) and "fewer healthy nodes" in result.message


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """Give a memory control group of 60 MB, where the machine lets us make one."""
    group = Path("/sys/fs/cgroup/memory") / f"campaign-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(60 << 20))
    except OSError:
        pytest.skip("no memory control group (version 1) can be made here")
    yield group
    until_empty = time.monotonic() + 20
    while (group / "cgroup.procs").read_text() and time.monotonic() < until_empty:
        time.sleep(0.05)
    group.rmdir()


def test_a_rank_that_the_kernel_kills_for_want_of_memory_is_oom(bench: Make, small_memory: Path) -> None:
    greedy = f"echo $$ > {small_memory}/cgroup.procs; exec {sys.executable} -S -c 'import os; x = os.urandom(200 << 20)'"
    result = bench(FOUR).task("greedy", 1, "sh", "-c", greedy).result(60)
    assert (result.status, result.cause) == (Status.FAILED, Cause.OOM), result
    assert not (result.folder / "outcome.json").exists()


def test_an_ordinary_app_is_refused_before_its_body_runs(bench: Make, tmp_path: Path) -> None:
    here = bench(FOUR)

    def ordinary() -> None:
        (tmp_path / "ran").touch()

    with pytest.raises(CampaignError, match="ordinary app"):
        here.executor.submit(ordinary, {}).result(5)
    assert not (tmp_path / "ran").exists()


class Blocked:
    """Calls that run until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def run(self, launch: TaskLaunch, nodes: tuple[str, ...], _: object) -> TaskResult:
        self.go.wait(60)
        return TaskResult(launch.name, launch.folder, Status.DONE, None, "", None, nodes, 0.0)


def test_no_more_than_a_hundred_calls_run_at_once_by_default(tmp_path: Path) -> None:
    runner: Any = Blocked()
    pool = NodePool([f"n{number}" for number in range(300)])
    executor = NodePoolExecutor(pool, runner)
    futures: list[Future[Any]] = [Future() for _ in range(300)]
    for number, future in enumerate(futures):
        executor.enqueue(TaskLaunch(f"t{number}", tmp_path, ("true",), 1, 1), future)
    for _ in range(2):
        executor._start()
    assert pool.counts.busy == 100
    runner.go.set()
    assert all(future.result(60).status is Status.DONE for future in futures[:100])
