"""A Parsl executor whose task is one launcher call on some nodes of the allocation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from parsl.app.app import python_app
from parsl.config import Config
from parsl.dataflow.dependency_resolvers import DEEP_DEPENDENCY_RESOLVER
from parsl.dataflow.dflow import DataFlowKernel
from parsl.dataflow.errors import DependencyError
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors.threads import ThreadPoolExecutor

from model.outcome import Cause, Status
from workflow.allocation.nodes import NodePool
from workflow.allocation.task import Settle, TaskLaunch
from workflow.errors import CampaignError
from workflow.executor import LaunchExecutor
from workflow.launch import Launch, launches
from workflow.stages.base import TaskResult

logger = logging.getLogger(__name__)
_STAGING = "staging"
_ENDS = "the allocation ends"
_LOOK_S = 1.0  # how late a deadline, or the end of a quarantine, may be noticed by waiting tasks


class Runner(Protocol):
    """What carries out one task on nodes that it was given."""

    def refusal(self, launch: TaskLaunch) -> str:
        """Return why a waiting task is not to be started any more, or nothing."""

    def run(self, launch: TaskLaunch, nodes: tuple[str, ...], settle: Settle) -> TaskResult:
        """Run a task to its end; returns when its nodes are free. `settle` may give the result before that."""

    def end(self) -> None:
        """Kill what runs."""


@dataclass(frozen=True)
class _Waiting:
    launch: TaskLaunch
    future: Future[TaskResult]


class NodePoolExecutor(LaunchExecutor):
    """Run tasks on the nodes of a pool: first come, first served, each in a thread of its own.

    A task waits until its nodes are free, is refused when it cannot be placed or does not fit before the
    deadline, and gives its nodes back when its processes are gone. No future is left open, whatever happens.

    Args:
        pool: The nodes.
        runner: Carries out one task.
        max_calls: Most launcher calls at once; large systems bear about 100 (OLCF's guide).
    """

    launch_type: ClassVar[type[Launch]] = TaskLaunch

    def __init__(self, pool: NodePool, runner: Runner, *, max_calls: int = 100, label: str = "nodes") -> None:
        super().__init__(label)
        self._pool, self._runner, self._max_calls = pool, runner, max_calls
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ended = self._closed = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Start the dispatcher."""
        self._dispatcher.start()

    def monitor_resources(self) -> bool:
        """Say that Parsl's own monitoring would see nothing: the work is done by other processes."""
        return False

    def enqueue(self, launch: Launch, future: Future[Any]) -> None:
        """Put a task into the queue."""
        assert isinstance(launch, TaskLaunch)
        with self._lock:
            closed = self._closed
            if not closed:
                self._pool.ask(launch.name, launch.nodes)
                self._waiting[launch.name] = _Waiting(launch, future)
        if closed:  # Parsl hands tasks over from threads of its own, and may come late
            complete(future, not_run(launch, Cause.PREEMPTED, _ENDS))
        self._changed.set()

    def shutdown(self) -> None:
        """Kill what runs, refuse what waits, and return when nodes are free or cannot be freed."""
        self._ended = True
        self._runner.end()
        self._changed.set()
        self._dispatcher.join(timeout=60.0)
        with self._lock:
            running = list(self._running.values())
        for thread in running:
            thread.join(timeout=60.0)
        super().shutdown()

    def _dispatch(self) -> None:
        while not self._ended:
            self._changed.wait(timeout=_LOOK_S)
            self._changed.clear()  # before looking, so that what comes meanwhile is looked at next
            try:
                self._refuse()
                self._start()
            except Exception as error:  # a defect of ours must not leave futures open for ever
                logger.exception("dispatcher")
                self._fail_all(error)
        with self._lock:
            self._closed = True
            left = list(self._waiting)
        for name in left:
            self._drop(name, Cause.PREEMPTED, _ENDS)

    def _refuse(self) -> None:
        for name in self._pool.unplaceable():
            self._drop(name, Cause.NODE_FAILURE, "fewer healthy nodes are left than it needs")
        with self._lock:  # tasks are put in from other threads, and even a copy of a dictionary may meet one
            waiting = list(self._waiting.items())
        for name, each in waiting:
            reason = self._runner.refusal(each.launch)
            if reason:
                self._drop(name, Cause.WALLTIME, f"not started: {reason}")

    def _drop(self, name: str, cause: Cause, message: str) -> None:
        self._pool.withdraw(name)
        with self._lock:
            each = self._waiting.pop(name)
        complete(each.future, not_run(each.launch, cause, message))

    def _start(self) -> None:
        with self._lock:
            granted = self._pool.grant(self._max_calls - len(self._running))
            for name, nodes in granted:
                each = self._waiting.pop(name)
                thread = threading.Thread(target=self._work, args=(each, nodes), name=f"task {name}", daemon=True)
                self._running[name] = thread
                thread.start()

    def _work(self, each: _Waiting, nodes: tuple[str, ...]) -> None:
        result: TaskResult | Exception
        try:
            result = self._runner.run(each.launch, nodes, partial(complete, each.future))
        except Exception as error:
            logger.exception("task %s", each.launch.name)
            result = error
        with self._lock:
            self._pool.release(each.launch.name)
            del self._running[each.launch.name]
        self._changed.set()
        complete(each.future, result)

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            left, self._waiting = self._waiting, {}
        for name, each in left.items():
            self._pool.withdraw(name)
            complete(each.future, error)


def complete(future: Future[TaskResult], result: TaskResult | Exception) -> None:
    """Complete a future unless that has been done."""
    try:
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
    except InvalidStateError:
        logger.info("the future was complete already")


def not_run(launch: TaskLaunch, cause: Cause, message: str) -> TaskResult:
    """Return the result of a task that never started."""
    return TaskResult(launch.name, launch.folder, Status.FAILED, cause, message, None, (), 0.0)


class Kernel:
    """Parsl inside an allocation: tasks, and copies to the nodes, as apps with dependencies.

    Args:
        executor: Where tasks run.
        run_dir: Parsl's own folder.
    """

    def __init__(self, executor: NodePoolExecutor, run_dir: Path) -> None:
        self._kernel = DataFlowKernel(_config(executor, run_dir))
        self._task = python_app(_launch, data_flow_kernel=self._kernel, executors=[executor.label])

    def task(self, launch: TaskLaunch, needs: Sequence[Future[Any]]) -> Future[TaskResult]:
        """Run a task when its needs are done; the future always gives a result."""
        settled: Future[TaskResult] = Future()
        self._task(launch, list(needs)).add_done_callback(lambda app: complete(settled, _result(app, launch)))
        return settled

    def stage(self, work: Callable[[], Path]) -> Future[Path]:
        """Do the agent's part of a stage-in, one at a time."""
        future: Future[Path] = python_app(_carry_out, data_flow_kernel=self._kernel, executors=[_STAGING])(work)
        return future

    def close(self) -> None:
        """Kill what runs, refuse what waits, end Parsl's threads."""
        self._kernel.cleanup()


@launches
def _launch(launch: TaskLaunch, needs: list[Any]) -> TaskLaunch:  # noqa: ARG001 Parsl waits for what stands in an argument
    return launch


def _carry_out(work: Callable[[], Path]) -> Path:
    return work()


def _result(app: Future[Any], launch: TaskLaunch) -> TaskResult:
    error = app.exception()
    if error is None:
        result: TaskResult = app.result()
        return result
    if isinstance(error, DependencyError):
        return not_run(launch, Cause.STORAGE, f"what it needs could not be made ready: {error}")
    cause = Cause.BAD_CONFIG if isinstance(error, CampaignError) else Cause.BUG
    return not_run(launch, cause, str(error) or repr(error))


def _config(executor: NodePoolExecutor, run_dir: Path) -> Config:
    """Return Parsl's configuration inside an allocation: dependencies and futures, nothing that keeps state or tries again.

    The executor of copies is one thread of the agent: copies to one node-local disk gain nothing from more.
    """
    return Config(
        executors=[executor, ThreadPoolExecutor(label=_STAGING, max_threads=1)],
        memoizer=BasicMemoizer(memoize=False),
        dependency_resolver=DEEP_DEPENDENCY_RESOLVER,
        exit_mode="skip",
        retries=0,
        strategy="none",
        run_dir=str(run_dir),
        initialize_logging=False,
    )
