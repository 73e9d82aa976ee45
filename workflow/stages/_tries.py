"""Carry tasks of one allocation to their end, side by side; one that failed through no fault of its own is tried again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model.config import Task
from model.outcome import Cause, Outcome, Status
from workflow.stages._inputs import earlier_tasks, finished, newest_checkpoint
from workflow.stages.base import Allocation, StageResult, TaskResult

Configure = Callable[[Path | None], Task]
"""Makes a task's configuration, given what to go on from, or None."""
Done = tuple[Path, Outcome]
"""Folder and outcome of a task."""
Run = TypeVar("Run", bound=Hashable)
_WAIT_S = 1.0


@dataclass(frozen=True)
class Work:
    """One task and how to make its configuration for each try.

    Attributes:
        name: Name of the task; further tries are called `<name>.2`, …: no name of a branch holds a point.
        command: Command of `python -m model`.
        configure: Makes the configuration of each try.
        nodes: Nodes it takes.
        resume: What an earlier attempt left to go on from, or None.
        left: Finds what a try left to go on from, given its folder.
    """

    name: str
    command: str
    configure: Configure
    nodes: int = 1
    resume: Path | None = None
    left: Callable[[Path], Path | None] = lambda folder: newest_checkpoint([folder])


def carry_out(allocation: Allocation, works: Sequence[Work], tries: int) -> dict[str, TaskResult]:
    """Start all works and return how each one's last try ended.

    A transient failure is tried again, from the newest checkpoint, at most `tries` times in all and not
    once the allocation is stopping.
    """
    running = {_start(allocation, each, each.resume, 1): (each, each.resume, 1) for each in works}
    ended: dict[str, TaskResult] = {}
    while running:
        for future in wait(running, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
            work, resume, number = running.pop(future)
            result = future.result()
            ended[work.name] = result
            if number < tries and is_worth_another(result, allocation):
                resume = work.left(result.folder) or resume
                running[_start(allocation, work, resume, number + 1)] = (work, resume, number + 1)
    return ended


def carry_out_rest(
    allocation: Allocation,
    command: str,
    runs: Mapping[str, Run],
    configure: Callable[[Run], Configure],
    tries: int,
    tell: Callable[[int], None],
) -> tuple[dict[Run, Done], dict[str, TaskResult]]:
    """Carry out those runs of one command that no earlier attempt has finished, side by side on equal shares of the nodes.

    Args:
        allocation: Where.
        command: Command of `python -m model`.
        runs: By the names of their tasks.
        configure: Asked for those that are left only.
        tries: See `carry_out`.
        tell: Called with the number of runs that are done, before and after.

    Returns:
        The runs that are done, with those of earlier attempts; and by name how those ended that were left.
    """
    folders = {name: earlier_tasks(allocation.campaign, allocation.request, name) for name in runs}
    done: dict[Run, Done] = {run: old for name, run in runs.items() if (old := finished(folders[name])) is not None}
    left = {name: run for name, run in runs.items() if run not in done}
    tell(len(done))
    nodes = max(1, allocation.num_nodes // max(1, len(left)))
    works = [Work(name, command, configure(run), nodes, newest_checkpoint(folders[name])) for name, run in left.items()]
    results = carry_out(allocation, works, tries)
    ended = {run: results[name] for name, run in left.items()}
    done |= {run: (each.folder, each.outcome) for run, each in ended.items() if each.status is Status.DONE and each.outcome}
    tell(len(done))
    return done, results


def remarks(done: Iterable[Done]) -> list[str]:
    """Return what tasks that are done remarked, each sentence once."""
    return list(dict.fromkeys(outcome.message for _, outcome in done if outcome.message))


def is_worth_another(result: TaskResult, allocation: Allocation) -> bool:
    """Say whether the same work may succeed when tried again in this allocation."""
    transient = result.cause is not None and result.cause.is_transient and result.cause is not Cause.WALLTIME
    return result.status is Status.FAILED and transient and not allocation.is_stopping()


def verdict(results: Sequence[TaskResult], allocation: Allocation) -> StageResult:
    """Sum up tasks that must all be done: the first failure counts, then whether work remains.

    A task that the end of the allocation cut short, leaving no outcome, is work that remains.
    """
    failures = [each for each in results if each.status is Status.FAILED and not _is_cut_short(each, allocation)]
    if failures:
        first = sorted(failures, key=lambda each: each.cause is None or each.cause.is_transient)[0]
        evidence = {"task": first.name, "nodes": list(first.nodes), "folder": str(first.folder)}
        return StageResult(Status.FAILED, first.cause or Cause.BUG, f"{first.name}: {first.message}", evidence=evidence)
    if any(each.status is not Status.DONE for each in results):
        return StageResult(Status.PARTIAL, message="stopped in order before the end of the allocation")
    return StageResult(Status.DONE)


def _is_cut_short(result: TaskResult, allocation: Allocation) -> bool:
    return result.cause is Cause.WALLTIME and allocation.is_stopping()


def _start(allocation: Allocation, work: Work, resume: Path | None, number: int) -> Future[TaskResult]:
    name = work.name if number == 1 else f"{work.name}.{number}"
    return allocation.task(name, work.command, work.configure(resume), nodes=work.nodes)
