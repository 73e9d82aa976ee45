"""`make bench-orchestrator`: what tasks, a resume and `status` cost, how often the batch system is asked, what faults cost.

Parts are real: Parsl, journal and ledger, the local batch system with a spool of its own, the launcher, record and receipts.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parsl import python_app
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors.threads import ThreadPoolExecutor

from bench import campaigns, timing
from bench.faults import fault_runs
from bench.queries import queries_per_hour
from bench.simulated import lost_shares
from model.outcome import Status
from workflow.allocation.deadline import Deadline
from workflow.allocation.executor import Kernel, NodePoolExecutor, Runner
from workflow.allocation.health import Probe
from workflow.allocation.launch import Setting, launcher
from workflow.allocation.nodes import NodePool
from workflow.allocation.task import Settle, TaskLaunch, TaskRunner
from workflow.batch.executor import BatchExecutor, kernel_config
from workflow.batch.job import Job
from workflow.batch.scheduler import Scheduler, for_site
from workflow.journal import Journal, read_events
from workflow.launch import launches
from workflow.ledger import Ledger
from workflow.report.status import read_status
from workflow.rundir import RunDir
from workflow.site import Periods, Site, load_site
from workflow.stages.base import TaskResult

EVENTS, TRIALS = 100_000, 10_000
TASKS, CALLS, JOBS = 1_000, 40, 40
RUNS, SEEDS = 20, 10_000
POLLS, POLL_S = 60, 0.1
REPORT = """printf '{"status": "done", "world_size": 1, "hosts": ["%s"]}' "$LOCAL_NODE" > outcome.json"""
WORK = ("sh", "-c", REPORT)
"""A task that says that it has done its work, and does none."""
NODES = tuple(f"node{k}" for k in range(16))
PERIODS = Periods(heartbeat_s=0.5, ttl_s=5.0, stop_margin_s=1.0, kill_after_s=1.0)
PATIENCE_S = 300.0

Costs = tuple[float, float]
"""CPU and wall seconds of a task."""


def main() -> None:
    """Measure and report."""
    small = timing.is_small("Task overhead, resume, status, queries of the batch system, what faults cost.")
    timing.say_machine()
    rounds, part = (1, 20) if small else (5, 1)
    with tempfile.TemporaryDirectory(prefix="bench-orchestrator-") as name:
        figures = overhead(Path(name), rounds, part) | resume(Path(name), EVENTS // part, rounds)
        figures |= status(Path(name), TRIALS // part, rounds)
        figures |= queries(Path(name), POLLS // (4 if small else 1))
    figures |= lost_shares(3 if small else RUNS)
    figures |= fault_runs(SEEDS // (100 * part if small else 1))
    timing.finish(figures, small=small)


def overhead(folder: Path, rounds: int, part: int) -> timing.Figures:
    """Time a backlog of tasks on every executor."""
    threads, pool, calls, jobs = (folder / each for each in ("threads", "pool", "calls", "jobs"))
    costs = {
        "Parsl's ThreadPoolExecutor, empty function": best(lambda k: on_threads(threads / f"{k}", TASKS // part), rounds),
        "NodePoolExecutor, runner that returns at once": best(lambda k: on_pool(pool / f"{k}", TASKS // part, Idle()), rounds),
        "the launcher by itself, `printf`": best(lambda k: bare_calls(calls / f"bare-{k}", CALLS // part), min(rounds, 3)),
        "NodePoolExecutor, the launcher, `printf`": best(lambda k: on_pool(calls / f"{k}", CALLS // part, None), min(rounds, 3)),
        "BatchExecutor, local scheduler, shell job": best(lambda k: on_batch(jobs / f"{k}", JOBS // part), min(rounds, 3)),
    }
    plain = next(iter(costs.values()))[0]
    rows = [["", "CPU ms", "wall ms", "CPU over Parsl's"]]
    rows += [[name, f"{1e3 * cpu:.2f}", f"{1e3 * wall:.2f}", f"{cpu / plain:.1f} x"] for name, (cpu, wall) in costs.items()]
    timing.say_table(f"a task in a backlog ({TASKS // part} empty ones, {CALLS // part} calls, {JOBS // part} jobs)", rows)
    timing.say("  CPU of children that were waited for is in; that of the detached supervisor of each local job is not")
    names = ("thread_task_cpu_ms", "node_pool_task_cpu_ms", "bare_call_cpu_ms", "node_pool_call_cpu_ms", "batch_task_cpu_ms")
    figures: timing.Figures = {name: 1e3 * cpu for name, (cpu, _) in zip(names, costs.values(), strict=True)}
    return figures | {"node_pool_vs_threads": costs["NodePoolExecutor, runner that returns at once"][0] / plain}


def resume(folder: Path, events: int, rounds: int) -> timing.Figures:
    """Time what a new driver does before its first act: take the lease over a long journal, and fold it."""
    rundir = RunDir(folder / "resume")
    campaigns.write_journal(rundir, events, PERIODS)
    attempts = len(Ledger(read_events(rundir)).by_token)

    def take_over(_: int) -> None:
        journal = Journal.take(rundir, PERIODS)
        try:
            ledger = Ledger(journal.events)
        finally:
            journal.close()
        assert len(ledger.by_token) == attempts

    seconds = timing.take_turns(
        {"take": take_over, "read": lambda _: read_events(rundir), "fold": _folding(read_events(rundir))}, rounds
    )
    least = {name: min(each) for name, each in seconds.items()}
    rows = [["", "CPU s"], ["take the lease and fold: the whole of it", f"{least['take']:.3f}"]]
    rows += [["one reading alone", f"{least['read']:.3f}"], ["one folding alone", f"{least['fold']:.3f}"]]
    timing.say_table(f"resume over a journal of {events:,} lines and {attempts:,} attempts, the best of {rounds}", rows)
    return {"resume_100k_events_cpu_s": least["take"]}


def status(folder: Path, trials: int, rounds: int) -> timing.Figures:
    """Time `read_status` on a search of many trials, at work and when its receipt stands."""
    running, ended = (
        campaigns.write_search(folder / name, trials, PERIODS, ended=name == "ended") for name in ("running", "ended")
    )

    def look(rundir: RunDir, state: str) -> None:
        found = {stage.key: stage for stage in read_status(rundir.root).stages}["search"]
        assert found.state == state and found.trials is not None and found.trials.done > trials // 2

    arms: dict[str, Callable[[int], object]] = {
        "at work": lambda _: look(running, "running"),
        "ended, receipts with every trial": lambda _: look(ended, "done"),
    }
    seconds = {name: min(each) for name, each in timing.take_turns(arms, rounds).items()}
    rows = [["", "CPU s"], *([name, f"{each:.4f}"] for name, each in seconds.items())]
    timing.say_table(f"status of a search of {trials:,} trials, the best of {rounds}", rows)
    return {"status_10k_trials_cpu_s": max(seconds.values())}


def queries(folder: Path, polls: int) -> timing.Figures:
    """Count the queries of drivers over an hour of the site's polls."""
    cases = {"1 job": (1, 1), "40 jobs": (40, 1), "200 jobs": (200, 1), "3 campaigns of one user, 40 jobs each": (40, 3)}
    found = {
        name: queries_per_hour(folder / f"queries-{jobs}-{drivers}", jobs, polls, POLL_S, PERIODS, drivers)
        for name, (jobs, drivers) in cases.items()
    }
    rows = [["a driver with", "queries an hour"], *([name, f"{each:.1f}"] for name, each in found.items())]
    timing.say_table(f"queries of the batch system, counted over {polls} polls", rows)
    return {
        "scheduler_queries_per_hour": found["40 jobs"],
        "scheduler_queries_per_hour_200_jobs": found["200 jobs"],
        "scheduler_queries_per_hour_3_campaigns": found["3 campaigns of one user, 40 jobs each"],
    }


def on_threads(folder: Path, count: int) -> Costs:
    """Run empty functions on Parsl's own executor."""
    config = Config(executors=[ThreadPoolExecutor(label="threads", max_threads=2)], run_dir=str(folder), **_QUIET)
    kernel = DataFlowKernel(config)
    app = python_app(_nothing, data_flow_kernel=kernel)
    try:
        return _costs(lambda: [app() for _ in range(count)], lambda _: True)
    finally:
        kernel.cleanup()


def on_pool(folder: Path, count: int, runner: Runner | None) -> Costs:
    """Run tasks on a pool of nodes; with no runner given, the real one calls the launcher of a laptop."""
    pool = NodePool(NODES, 0)
    executor = NodePoolExecutor(pool, runner or _real_runner(folder, pool), max_calls=2 if runner is None else len(NODES))
    kernel = Kernel(executor, folder / "parsl")
    tasks = [TaskLaunch(f"t{k}", folder / f"t{k}", WORK) for k in range(count)]
    for task in tasks:
        task.folder.mkdir(parents=True)
    try:
        return _costs(lambda: [kernel.task(task, ()) for task in tasks], lambda result: result.status is Status.DONE)
    finally:
        kernel.close()


def bare_calls(folder: Path, count: int) -> Costs:
    """Start the same calls without an executor, one after the other."""
    folder.mkdir(parents=True)
    call = launcher("mpiexec").argv(_setting().placement(NODES[:1], 1, folder), WORK)
    cpu, wall = timing.cpu_s(), time.monotonic()
    for _ in range(count):
        subprocess.run(call, cwd=folder, check=True, timeout=PATIENCE_S)
    return (timing.cpu_s() - cpu) / count, (time.monotonic() - wall) / count


def on_batch(folder: Path, count: int) -> Costs:
    """Run attempts whose job is a shell script: intent and facts in the journal, fence, receipt, queue."""
    batch = for_site(_site(folder / "spool"))
    journal = Journal.take(RunDir(folder), PERIODS)
    executor = BatchExecutor("batch", batch, journal, lambda *_: None)
    kernel = DataFlowKernel(kernel_config(executor, folder / "parsl"))
    app = python_app(launches(_itself), data_flow_kernel=kernel, executors=["batch"])
    jobs = [campaigns.shell_job(folder, k) for k in range(count)]
    try:
        return _costs(lambda: [_handed_in(app, journal, job) for job in jobs], lambda settled: settled.status is Status.DONE)
    finally:
        kernel.cleanup()
        journal.close()
        _await_end(batch)


class Idle(Runner):
    """A runner that has nothing to do: what is left is the executor's own cost."""

    def refusal(self, launch: TaskLaunch) -> str:  # noqa: ARG002
        """Refuse nothing."""
        return ""

    def run(self, launch: TaskLaunch, nodes: tuple[str, ...], settle: Settle) -> TaskResult:  # noqa: ARG002
        """Return at once."""
        return TaskResult(launch.name, launch.folder, Status.DONE, None, "", None, nodes, 0.0)

    def end(self) -> None:
        """Nothing runs."""


def best(work: Callable[[int], Costs], rounds: int) -> Costs:
    """Return the least CPU and the least wall seconds over the rounds, the first of which warms up."""
    found = [work(k) for k in range(rounds + 1)][1:]
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)


_QUIET: dict[str, Any] = {"strategy": "none", "exit_mode": "skip", "usage_tracking": 0, "initialize_logging": False}


def _costs(submit: Callable[[], Sequence[Future[Any]]], is_good: Callable[[Any], bool]) -> Costs:
    cpu, wall = timing.cpu_s(), time.monotonic()
    futures = submit()
    results = [future.result(PATIENCE_S) for future in futures]
    spent = (timing.cpu_s() - cpu) / len(results), (time.monotonic() - wall) / len(results)
    assert all(is_good(result) for result in results)
    return spent


def _real_runner(folder: Path, pool: NodePool) -> TaskRunner:
    setting = _setting()
    deadline = Deadline(time.time() + 10 * PATIENCE_S, PERIODS.stop_margin_s, PERIODS.kill_after_s)
    return TaskRunner(setting, PERIODS, pool, deadline, Probe(setting, folder / "probes", PERIODS.ttl_s))


def _setting() -> Setting:
    return Setting(launcher("mpiexec"), (), load_site("local").node, dict(os.environ))


def _site(spool: Path) -> Site:
    site = load_site("local")
    changes = {"options": {"spool": str(spool), "kill_wait_s": 0.5}, "poll_s": 0.1}
    return site.model_copy(update={"scheduler": site.scheduler.model_copy(update=changes), "periods": PERIODS})


def _handed_in(app: Callable[[Job], Future[Any]], journal: Journal, job: Job) -> Future[Any]:
    journal.commit("intent", **campaigns.intent_of(job))
    return app(job)


def _await_end(batch: Scheduler) -> None:
    """Wait until the supervisors of all jobs have ended: the temporary folder goes."""
    until = time.monotonic() + 30.0
    while time.monotonic() < until and not all(row.state.is_final for row in batch.snapshot().rows):
        time.sleep(0.1)


def _folding(events: list[dict[str, Any]]) -> Callable[[int], object]:
    return lambda _: Ledger(events)


def _nothing() -> None:
    return None


def _itself(job: Job) -> Job:
    return job


if __name__ == "__main__":
    main()
