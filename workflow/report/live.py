"""The live view: stages as a tree with state, progress, trials, best objective, nodes, time left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from workflow.report.progress import Task, Trials
from workflow.report.status import CampaignStatus, StageStatus, read_status
from workflow.stages.base import walltime_text

_MARKS = {
    "done": ("✔", "green"),
    "failed": ("✘", "bold red"),
    "cancelled": ("✘", "yellow"),
    "held": ("⏸", "yellow"),
    "running": ("▶", "bold cyan"),
    "ending": ("▶", "cyan"),
    "queued": ("…", "blue"),
    "submitting": ("…", "blue"),
    "retrying": ("↻", "yellow"),
    "ready": ("○", "white"),
    "waiting": ("·", "dim"),
}
_REFRESH_S = 1.0
_SILENT_S = 30.0
_MOST_TASKS = 4
_BAR = 8


class View:
    """Renders status after status; it judges silence by its own clock, from counts that stand still."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int | None, float]] = {}

    def render(self, status: CampaignStatus) -> RenderableType:
        """Return what to show of a status."""
        width = max((len(stage.key) for stage in status.stages), default=0)
        tree = Tree(_head(status), guide_style="dim", hide_root=False)
        for stage in status.stages:
            branch = tree.add(_stage_line(stage, width))
            for line in self._details(stage):
                branch.add(line)
        remarks = [Text(f"! {remark}", "yellow") for remark in status.remarks]
        return Group(tree, *remarks)

    def _details(self, stage: StageStatus) -> list[Text]:
        lines = [Text(stage.message, "red" if stage.state == "failed" else "yellow")] if stage.message else []
        if stage.state not in ("running", "ending"):
            return lines
        if stage.trials is not None:
            lines.append(_trials_line(stage.trials))
        lines.append(self._nodes_line(stage))
        running = [task for task in stage.work.tasks if task.status == "running"]
        lines += [_task_line(task) for task in running[:_MOST_TASKS]]
        if len(running) > _MOST_TASKS:
            lines.append(Text(f"… and {len(running) - _MOST_TASKS} more at work", "dim"))
        return [line for line in lines if line.plain]

    def _nodes_line(self, stage: StageStatus) -> Text:
        used = [f"{count} {name}" for name, count in stage.work.nodes.items() if name != "allocated" and count]
        line = Text(f"nodes: {', '.join(used)}" if used else "", "dim")
        quiet = self._quiet_s(stage)
        if quiet >= _SILENT_S:
            line.append(f"{'  ' if line.plain else ''}silent for {quiet:.0f} s", "bold yellow")
        return line

    def _quiet_s(self, stage: StageStatus) -> float:
        beat, now = stage.work.beat, time.monotonic()
        if stage.key not in self._heard or self._heard[stage.key][0] != beat:
            self._heard[stage.key] = (beat, now)
        return now - self._heard[stage.key][1]


def show(status: CampaignStatus, console: Console | None = None) -> None:
    """Print a status once."""
    (console or Console(highlight=False)).print(View().render(status))


def watch(folder: Path) -> None:
    """Show a campaign until it ends or the user leaves."""
    view, console = View(), Console(highlight=False)
    last = ""
    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                status = read_status(folder)
                if console.is_terminal:
                    live.update(view.render(status), refresh=True)
                elif (text := _states(status)) != last:
                    click.echo(text)
                    last = text
                if status.state not in ("unfinished", "empty"):
                    return
                time.sleep(_REFRESH_S)
    except KeyboardInterrupt:
        sys.stderr.write("left; the campaign goes on\n")


def _states(status: CampaignStatus) -> str:
    return "  ".join(f"{stage.key}:{stage.state}" for stage in status.stages)


def _head(status: CampaignStatus) -> Text:
    head = Text.assemble((status.name, "bold"), f" on {status.site or '?'}: ", (status.state, _state_style(status.state)))
    head.append(f"  {status.node_hours:.3g} of at most {status.planned_node_hours:.3g} node-hours", "dim")
    if status.budget is not None:
        head.append(f", budget {status.budget:g}", "dim")
    return _one_line(head)


def _state_style(state: str) -> str:
    return {"done": "bold green", "failed": "bold red", "held": "bold yellow", "cancelled": "bold yellow"}.get(state, "bold cyan")


def _stage_line(stage: StageStatus, width: int) -> Text:
    mark, style = _MARKS.get(stage.state, ("?", ""))
    line = Text.assemble((f"{mark} ", style), (stage.key.ljust(width), "bold" if stage.state == "running" else ""))
    line.append(f"  {stage.kind:<8} ", "dim").append(f"{stage.state:<9}", style)
    for fact in _facts(stage):
        line.append(" ").append_text(fact)
    return _one_line(line)


def _facts(stage: StageStatus) -> list[Text]:
    facts: list[Text] = []
    if stage.state == "waiting":
        return [Text(f"for {', '.join(stage.waits_for)}", "dim")]
    if stage.cause:
        facts.append(Text(stage.cause, "red" if stage.state == "failed" else "yellow"))
    if stage.links > 1 and stage.link:
        facts.append(Text(f"link {stage.link}/{stage.links}"))
    if stage.attempt > 1:
        facts.append(Text(f"attempt {stage.attempt}", "yellow"))
    if stage.state == "running" and (bar := _bar(_share(stage))) is not None:
        facts.append(bar)
    elif stage.state != "running" and stage.trials is not None:
        facts.append(Text(f"{stage.trials.done} trials", "dim"))
    if stage.objective is not None:
        facts.append(Text(f"best {stage.objective:.4g}", "magenta"))
    return facts + _running_facts(stage) if stage.state == "running" else facts


def _running_facts(stage: StageStatus) -> list[Text]:
    facts: list[Text] = []
    if stage.work.phase and stage.work.phase != "working":
        facts.append(Text(stage.work.phase, "dim"))
    if stage.work.time_left_s is not None:
        facts.append(Text(f"{_clock(stage.work.time_left_s)} left"))
    return facts


def _clock(seconds: float) -> str:
    text = walltime_text(max(0.0, seconds))
    return text.removeprefix("00:")


def _share(stage: StageStatus) -> float | None:
    """Return how much of a stage is done, from 0 to 1, where that is known."""
    trials = stage.trials
    if trials is not None and trials.planned:
        return (trials.done + trials.stopped + sum(trials.failed.values())) / trials.planned
    running = [task for task in stage.work.tasks if task.status == "running" and task.total]
    if len(running) == 1 and running[0].done is not None and running[0].total:
        return running[0].done / running[0].total
    return None


def _bar(share: float | None) -> Text | None:
    if share is None:
        return None
    filled = round(min(max(share, 0.0), 1.0) * _BAR)
    return Text.assemble(("━" * filled, "cyan"), ("─" * (_BAR - filled), "dim"), f" {100 * min(share, 1.0):.0f}%")


def _trials_line(trials: Trials) -> Text:
    of = f" of {trials.planned}" if trials.planned else ""
    line = Text(f"trials: {trials.done}{of} done, {trials.running} running")
    if trials.stopped:
        line.append(f", {trials.stopped} stopped early")
    if trials.failed:
        causes = ", ".join(f"{count} {cause}" for cause, count in sorted(trials.failed.items()))
        line.append(f", {sum(trials.failed.values())} failed ({causes})", "yellow")
    if trials.interrupted:
        line.append(f", {trials.interrupted} interrupted", "dim")
    return _one_line(line)


def _task_line(task: Task) -> Text:
    line = Text.assemble((task.name, "cyan"), f" {task.phase or 'starting'}")
    if task.epoch is not None and task.epochs:
        line.append(f" epoch {task.epoch:g}/{task.epochs:g}")
    elif task.total and task.done is not None:
        line.append(f" {task.done:g}/{task.total:g} {task.unit}")
    if task.objective is not None:
        line.append(f" objective {task.objective:.4g}", "magenta")
    if task.rate:
        line.append(f" {task.rate:.4g} structures/s", "dim")
    return _one_line(line)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
