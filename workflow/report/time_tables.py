"""Tables of where the time went: stage-in, checkpoints, phases of tasks."""

from __future__ import annotations

from workflow.report.facts import Facts, StageFacts
from workflow.report.tables import Table, number
from workflow.report.timings import PHASES, TaskFacts, checkpoints, phases


def trained(facts: Facts) -> list[tuple[StageFacts, list[TaskFacts]]]:
    """Return the stages that train, with those of their tasks that did."""
    found = [(stage, [task for task in stage.tasks if task.trains]) for stage in facts.stages]
    return [(stage, tasks) for stage, tasks in found if tasks]


def stage_in_table(facts: Facts) -> Table:
    """Return what each stage-in copied to its nodes, and how long the slowest node took."""
    counts = (">files", ">MB to each node", ">nodes", ">files by broadcast", ">there before")
    columns = ("stage", ">link.attempt", *counts, ">slowest node (s)", ">in all (s)", ">MB/s a node")
    rows = []
    for stage in facts.stages:
        for each in stage.stage_ins:
            told = each.facts
            size, seconds = float(told.get("bytes") or 0) / 1e6, told.get("seconds")
            sent = int(told.get("broadcast_files") or 0)
            before = max(0, int(told.get("skipped_files") or 0) - sent * int(told.get("nodes") or 0))
            there = f"{number(before)} of {number(told.get('done_files'))} copies"
            rate = number(size / seconds) if seconds and not told.get("skipped_files") else ""
            sizes = (number(told.get("files")), number(size), number(told.get("nodes")), number(sent), there)
            rows.append((stage.key, each.attempt, *sizes, number(seconds), number(told.get("elapsed_s")), rate))
    return Table("Stage-in: files copied to node-local storage, verified by digest on each node", columns, tuple(rows))


def checkpoint_table(facts: Facts) -> Table:
    """Return what checkpoints cost in each stage that trains."""
    columns = ("stage", ">tasks", ">checkpoints", ">mean (s)", ">longest (s)", ">in all (s)", ">% of the tasks' time", ">MB kept")
    rows = []
    for stage, tasks in trained(facts):
        told = checkpoints(tasks)
        count, seconds = told["count"], told["seconds"]
        kept = sum(float(each.get("size") or 0) for each in stage.outputs if str(each.get("role")).startswith("checkpoint"))
        mean, longest = (number(seconds / count), number(told["longest_s"])) if count else ("", "")
        share = number(100 * seconds / told["command"]) if told["command"] else ""
        counts = (number(len(tasks)), number(int(count)) if count else "not counted")
        rows.append((stage.key, *counts, mean, longest, number(seconds), share, number(kept / 1e6) if kept else ""))
    return Table("Checkpoints of trainings, as rank 0 timed them", columns, tuple(rows))


def phases_table(facts: Facts) -> Table:
    """Return the seconds of each phase of the tasks of a stage."""
    columns = ("stage", ">tasks", *(f">{phase} (s)" for phase in PHASES))
    rows = [
        (stage.key, number(len(tasks)), *(number(round(value, 3)) for value in phases(tasks).values()))
        for stage, tasks in trained(facts)
    ]
    return Table("Seconds by phase, added up over a stage's tasks", columns, tuple(rows))
