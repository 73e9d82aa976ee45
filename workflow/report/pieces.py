"""What the live view says of one stage: short facts, each of which stays whole on a line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from workflow.report.progress import Task, Trials
from workflow.report.status import StageStatus
from workflow.stages.base import hours_text, walltime_text

MARKS = {
    "done": ("✔", "green"),
    "failed": ("✘", "bold red"),
    "cancelled": ("✘", "yellow"),
    "held": ("⏸", "bold yellow"),
    "running": ("▶", "bold cyan"),
    "ending": ("▶", "cyan"),
    "queued": ("…", "blue"),
    "submitting": ("…", "blue"),
    "retrying": ("↻", "yellow"),
    "ready": ("○", "white"),
    "waiting": ("·", "dim"),
}
AT_WORK = ("running", "ending")
_BAR = 8
_GB = 1e9


def facts(stage: StageStatus, quiet_s: float) -> list[Text]:
    """Return what stands behind a stage's name and state.

    Args:
        stage: The stage.
        quiet_s: For how long its agent has not been heard, by the observer's own clock.
    """
    if stage.state == "waiting":
        return [Text(f"for {', '.join(folded(stage.waits_for))}", "dim")]
    if stage.state == "held":
        return [Text(f"its next job may cost {hours_text(stage.job_node_hours)} node-hours", "yellow")]
    found = [Text(stage.cause, MARKS[stage.state][1] if stage.state in MARKS else "")] if stage.cause else []
    if stage.state in (*AT_WORK, "queued", "submitting", "retrying"):
        found += _of_job(stage, quiet_s)
        if stage.state not in AT_WORK and stage.trials is not None:
            found.append(Text(f"{stage.trials.ended:,} trials so far"))
    elif stage.trials is not None and stage.trials.ended:
        found += [Text(f"{stage.trials.ended:,} trials"), *_ends(stage.trials)]
    if stage.state not in AT_WORK and stage.objective is not None:
        found.append(_objective(stage))
    if stage.node_hours and stage.state not in AT_WORK:
        found.append(Text(f"{hours_text(stage.node_hours)} of {hours_text(stage.planned_node_hours)} node-hours", "dim"))
    return found


def details(stage: StageStatus, most_tasks: int) -> list[list[Text]]:
    """Return what stands below a stage at work, line by line."""
    if stage.state not in AT_WORK:
        return []
    running = stage.work.running
    is_alone = len(running) == 1 and stage.trials is None and most_tasks > 0
    lines = [_stage_in(stage), [] if is_alone else _progress(stage), _standing(stage)]
    lines += [_of_task(task, is_alone=is_alone) for task in running[:most_tasks]]
    if len(running) > most_tasks > 0:
        lines.append([Text(f"… and {len(running) - most_tasks} more tasks at work", "dim")])
    return [line for line in lines if line]


def folded(keys: Sequence[str]) -> list[str]:
    """Return stage instances with those of one stage told as one: `train (2)`."""
    count: dict[str, int] = {}
    for key in keys:
        count[key.partition("/")[0]] = count.get(key.partition("/")[0], 0) + 1
    single = {key.partition("/")[0]: key for key in keys}
    return [single[name] if number == 1 else f"{name} ({number})" for name, number in count.items()]


def _of_job(stage: StageStatus, quiet_s: float) -> list[Text]:
    found = []
    if stage.links > 1:
        found.append(Text(f"job {stage.link} of at most {stage.links}"))
    if stage.attempt > 1:
        found.append(Text(f"attempt {stage.attempt}", "yellow"))
    if stage.state == "queued":
        found.append(Text(f"as {stage.job_id} since {_moment(stage.since)}"))
    if stage.state in AT_WORK and stage.work.phase not in ("", "working"):
        found.append(Text(stage.work.phase))
    if stage.state == "running" and stage.work.time_left_s is not None:
        found.append(Text(f"{clock(stage.work.time_left_s - quiet_s)} left", "bold"))
    if stage.behind:
        found.append(Text(f"{stage.behind} more queued behind", "dim"))
    return found


def clock(seconds: float) -> str:
    """Return a time span as `12:34` or `01:12:34`."""
    return walltime_text(max(0.0, seconds)).removeprefix("00:")


def _moment(since: float | None) -> str:
    if not since:
        return "?"
    when = datetime.fromtimestamp(since)
    return f"{when:%H:%M}" if when.date() == datetime.now().date() else f"{when:%b %d %H:%M}"


def _stage_in(stage: StageStatus) -> list[Text]:
    told = stage.work.stage_in
    if not told:
        return []
    amounts = f"{told['done'] / _GB:.3g} of {told['total'] / _GB:.3g} GB onto {told['nodes']:g} nodes"
    return [Text("broadcast" if told["is_broadcast"] else "stage-in"), _bar(told["done"] / told["total"]), Text(amounts)]


def _progress(stage: StageStatus) -> list[Text]:
    trials, sources = stage.trials, stage.work.sources
    if trials is not None:
        bar = [_bar(trials.ended / trials.planned)] if trials.planned else []
        of = f" of {trials.planned:,}" if trials.planned else ""
        return [Text(f"{trials.ended:,}{of} trials"), *bar, Text(f"{trials.running:,} at work"), *_ends(trials)]
    if sources is not None and sources[1]:
        return [Text("data sets"), _bar(sources[0] / sources[1]), Text(f"{sources[0]} of {sources[1]}")]
    measured = [task for task in stage.work.running if task.total and task.done is not None]
    if not measured:
        return []
    share = sum((task.done or 0.0) / (task.total or 1.0) for task in measured) / len(measured)
    return [Text(measured[0].name if len(measured) == 1 else f"{len(measured)} tasks"), _bar(share)]


def _ends(trials: Trials) -> list[Text]:
    """Return how trials have ended; failures by cause."""
    found = [Text(f"{trials.done:,} done")]
    if trials.stopped:
        found.append(Text(f"{trials.stopped:,} stopped early"))
    if trials.failed:
        causes = ", ".join(f"{count:,} {cause}" for cause, count in sorted(trials.failed.items()))
        found.append(Text(f"{sum(trials.failed.values()):,} failed ({causes})", "yellow"))
    if trials.interrupted:
        found.append(Text(f"{trials.interrupted:,} interrupted", "dim"))
    return found


def _standing(stage: StageStatus) -> list[Text]:
    found = [_objective(stage)] if stage.objective is not None else []
    if stage.work.rate:
        found.append(Text(_rate(stage.work.rate)))
    nodes = [f"{count} {name}" for name, count in stage.work.nodes.items() if name != "allocated" and count]
    if nodes:
        found.append(Text(f"nodes: {', '.join(nodes)}", "dim"))
    used, reserved = stage.node_hours, stage.reserved_node_hours
    if reserved:
        found.append(Text(f"{hours_text(used)} node-hours used, {hours_text(reserved)} reserved", "dim"))
    return found


def _objective(stage: StageStatus) -> Text:
    trial = f" (trial {stage.trials.best_id})" if stage.trials is not None and stage.trials.best_id is not None else ""
    return Text(f"best objective {stage.objective:.4g}{trial}", "magenta")


def _of_task(task: Task, *, is_alone: bool) -> list[Text]:
    """Return a line about a task; of one that is alone the stage's line tells objective and rate."""
    found = [Text.assemble((task.name, "cyan"), f" {task.phase or 'starting'}")]
    if is_alone and task.total and task.done is not None:
        found.append(_bar(task.done / task.total))
    if task.epoch is not None and task.epochs:
        found.append(Text(f"epoch {task.epoch:g} of {task.epochs:g}"))
    elif task.total and task.done is not None:
        found.append(Text(f"{task.done:g} of {task.total:g} {task.unit}".rstrip()))
    if task.objective is not None and not is_alone:
        found.append(Text(f"objective {task.objective:.4g}", "magenta"))
    if task.rate and not is_alone:
        found.append(Text(_rate(task.rate), "dim"))
    return found


def _rate(value: float) -> str:
    return f"{value:,.0f} structures/s" if value >= 1000 else f"{value:.3g} structures/s"


def _bar(share: float) -> Text:
    share = min(max(share, 0.0), 1.0)
    filled = round(share * _BAR)
    return Text.assemble(("━" * filled, "cyan"), ("─" * (_BAR - filled), "dim"), f" {100 * share:.0f}%")


def states(stages: Sequence[StageStatus]) -> list[Text]:
    """Return how many of a stage's instances are in which state: `2 of 3 done`, `1 running`."""
    count: dict[str, int] = {}
    for stage in stages:
        count[stage.state] = count.get(stage.state, 0) + 1
    done = Text(f"{count.pop('done', 0)} of {len(stages)} done")
    return [done, *(Text(f"{number} {state}", MARKS.get(state, ("", ""))[1]) for state, number in count.items())]
