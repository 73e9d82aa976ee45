"""The live view: stages as a tree, every line whole at any width, folded where the terminal is low."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from workflow.errors import plain
from workflow.report.locate import short
from workflow.report.pieces import AT_WORK, MARKS, details, facts, folded, states
from workflow.report.screen import screen
from workflow.report.status import OVER, CampaignStatus, StageStatus, read_status
from workflow.stages.base import hours_text

_REFRESH_S = 1.0
_SHARE = 0.1
_SILENT_S = 30.0
_MOST_TASKS = (4, 0, 0)
_MOST_LINES = 3
_MOST_OF_A_FAN = 8
_AT_REST = ("done", "waiting")
_URGENT = ("failed", "held", "cancelled", "running", "ending", "retrying", "queued", "submitting", "ready", "waiting", "done")


@dataclass(frozen=True)
class Branch:
    """A line of the tree with what hangs on it.

    Attributes:
        head: What it begins with.
        facts: What stands behind it, as far as the line goes, and below it.
        twigs: Lines below it.
        gap: What stands between head and facts.
    """

    head: Text
    facts: Sequence[Text] = ()
    twigs: Sequence[Branch] = ()
    gap: str = "  "


class View:
    """Renders status after status; it judges silence by its own clock, from counts that stand still."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int | None, float]] = {}

    def render(self, status: CampaignStatus, width: int = 80, height: int | None = None) -> RenderableType:
        """Return what to show of a status.

        Args:
            status: The status.
            width: Columns of the terminal.
            height: Its lines; with more to show, tasks are left out first, then stages at rest are folded.
        """
        lines: list[Text] = []
        for level in range(len(_MOST_TASKS)):
            lines = [*_head(status, width), *self._tree(status, width, level), *_remarks(status, width)]
            if height is None or len(lines) <= height:
                break
        return Group(*lines)

    def _tree(self, status: CampaignStatus, width: int, level: int) -> Iterator[Text]:
        groups: dict[str, list[StageStatus]] = {}
        for stage in status.stages:
            groups.setdefault(stage.key.partition("/")[0], []).append(stage)
        shown = {name: stages for name, stages in groups.items() if level < 2 or not all(map(_rests, stages))}
        pad = max((len(name if len(stages) > 1 else stages[0].key) for name, stages in shown.items()), default=0)
        for name, stages in shown.items():
            is_fan = len(stages) > 1
            branch = self._fan(name, stages, pad, status, level) if is_fan else self._branch(stages[0], pad, status, level)
            yield from _lines(branch, "", "", width)
        aside = [stage for name, stages in groups.items() if name not in shown for stage in stages]
        for state in _AT_REST:
            keys = folded([stage.key for stage in aside if stage.state == state])
            if keys:
                yield from _lines(Branch(_name(keys[0], pad, state), [Text(each) for each in keys[1:]]), "", "", width)

    def _fan(self, name: str, stages: Sequence[StageStatus], pad: int, status: CampaignStatus, level: int) -> Branch:
        """Give the stages that one in the file fans out into, under its name; the most urgent state is its own."""
        state = min((stage.state for stage in stages), key=lambda each: _URGENT.index(each) if each in _URGENT else 0)
        if state == "waiting" and len({stage.waits_for for stage in stages}) == 1:
            return Branch(_name(name, pad, state), [Text(f"{len(stages)} of them", "dim"), *facts(stages[0], 0.0)])
        is_long = level > 0 or len(stages) > _MOST_OF_A_FAN
        shown = [stage for stage in stages if not (is_long and _rests(stage))]
        inner = max((len(stage.key) for stage in shown), default=0) - len(name) - 1
        return Branch(_name(name, pad, state), states(stages), [self._branch(each, inner, status, level, name) for each in shown])

    def _branch(self, stage: StageStatus, pad: int, status: CampaignStatus, level: int, fan: str = "") -> Branch:
        quiet = self._quiet_s(stage)
        behind = facts(stage, quiet)
        if stage.state in AT_WORK and quiet >= _SILENT_S:
            behind.append(Text(f"silent for {quiet:.0f} s", "bold yellow"))
        twigs = [Branch(line[0], line[1:], gap=" · ") for line in details(stage, _MOST_TASKS[level])]
        if stage.message and stage.state != "held":
            twigs.append(Branch(Text(plain(stage.message, None), "red" if stage.state == "failed" else "yellow")))
        if stage.approved:
            twigs.append(Branch(Text("approved; waits for a driver to take it in", "yellow")))
        elif stage.state == "held":
            command = Text(f"campaign approve {stage.key} -c {_target(status)}", "bold")
            twigs.append(Branch(Text("approve it with:", "yellow"), [command], gap=" "))
        return Branch(_name(stage.key.removeprefix(f"{fan}/"), pad, stage.state), behind, twigs)

    def _quiet_s(self, stage: StageStatus) -> float:
        beat, now = stage.work.beat, time.monotonic()
        if stage.key not in self._heard or self._heard[stage.key][0] != beat:
            self._heard[stage.key] = (beat, now)
        return now - self._heard[stage.key][1] if beat is not None else 0.0


def show(status: CampaignStatus, console: Console | None = None) -> None:
    """Print a status once."""
    console = console or screen()
    console.print(View().render(status, console.width))


def watch(folder: Path, file: Path | None = None) -> None:
    """Show a campaign until it ends or the user leaves.

    Args:
        folder: The campaign's folder.
        file: Its YAML file, where known.
    """
    view, console, last = View(), screen(), ""
    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                began = time.monotonic()
                status = read_status(folder, file)
                is_over = status.state not in ("unfinished", "empty")
                if console.is_terminal:  # what stays there at the end is shown whole
                    live.update(view.render(status, console.width, None if is_over else console.height - 1), refresh=True)
                elif (text := _states(status)) != last:
                    click.echo(text)
                    last = text
                if is_over:
                    return
                time.sleep(rest_s(time.monotonic() - began))
    except KeyboardInterrupt:
        sys.stderr.write("left; the campaign goes on\n")


def rest_s(took_s: float) -> float:
    """Return how long to rest after a look: a large campaign is looked at less often."""
    return max(_REFRESH_S, took_s / _SHARE)


def _rests(stage: StageStatus) -> bool:
    return stage.state in _AT_REST


def _states(status: CampaignStatus) -> str:
    return "  ".join(f"{stage.key}:{stage.state}" for stage in status.stages)


def _head(status: CampaignStatus, width: int) -> Iterator[Text]:
    where = f" on {status.site}: " if status.site else ": "
    state = {"empty": "not started", "unfinished": "under way"}.get(status.state, status.state)
    yield _whole(Text.assemble((status.name, "bold"), where, (state, _STYLES.get(status.state, "bold cyan"))))
    if status.stages:
        costs = [f"{hours_text(status.node_hours)} of at most {hours_text(status.planned_node_hours)} node-hours used"]
        costs += [f"{hours_text(status.reserved_node_hours)} reserved"] if status.reserved_node_hours else []
        costs += [f"{hours_text(status.approved)} approved"] if status.approved is not None else []
        costs += [f"{hours_text(status.to_take_in)} with what was approved and is not taken in yet"] if status.to_take_in else []
        yield from _lines(Branch(Text(costs[0], "dim"), [Text(each, "dim") for each in costs[1:]], gap=" · "), "", "", width)
    for sentence, command in _next(status):
        yield from _lines(Branch(Text(sentence, "yellow"), [Text(command, "bold")], gap=" "), "", "", width)


_STYLES = {"done": "bold green", "failed": "bold red", "held": "bold yellow", "cancelled": "bold yellow"}


def _next(status: CampaignStatus) -> Iterator[tuple[str, str]]:
    """Say what a person can do now that the campaign does not do by itself, and by which command."""
    target = _target(status)
    if status.state == "empty":
        yield "start it with:", f"campaign run {target}"
    elif status.state == "unfinished" and status.driver == "ended":
        yield "no driver is at work, submitted jobs go on; come back with:", f"campaign run {target}"
    elif status.state == "unfinished" and status.driver == "unknown":
        yield "if no driver is at work on another host, come back with:", f"campaign run {target}"
    elif status.state == "held" and status.driver != "at work" and any(stage.approved for stage in status.stages):
        yield "approved, and no driver is at work to take it in; go on with:", f"campaign run {target}"
    elif status.state in ("failed", "cancelled"):
        first = next(stage.key for stage in status.stages if stage.state == status.state)
        yield "why:", f"campaign logs {first} -c {target}"
        yield "try again with:", f"campaign resume {target}"


def _target(status: CampaignStatus) -> str:
    return short(Path(status.file) if status.file else status.folder)


def _name(name: str, pad: int, state: str) -> Text:
    mark, style = MARKS.get(state, ("?", ""))
    return Text.assemble(
        (f"{mark} ", style), (name.ljust(pad), "" if state in (*OVER, "waiting") else "bold"), "  ", (f"{state:<8}", style)
    )


def _lines(branch: Branch, first: str, rest: str, width: int) -> Iterator[Text]:
    """Lay a branch out: as many facts on its line as fit whole, the others below, then its twigs."""
    guide = rest + ("│   " if branch.twigs else "    ")
    line, *below = _packed(branch, width - len(first), width - len(guide))
    line.rstrip()
    for number, text in enumerate(_wrapped(line, width - len(first)) if not branch.facts else [_whole(line)]):
        yield Text.assemble((first if number == 0 else rest, "dim"), text, no_wrap=True, overflow="ellipsis")
    for text in below:
        yield Text.assemble((guide, "dim"), text, no_wrap=True, overflow="ellipsis")
    for number, twig in enumerate(branch.twigs, start=1):
        is_last = number == len(branch.twigs)
        yield from _lines(twig, rest + ("└── " if is_last else "├── "), rest + ("    " if is_last else "│   "), width)


def _packed(branch: Branch, width: int, below: int) -> list[Text]:
    lines = [Text().append_text(branch.head)]  # the style of the first fact is not that of the line
    for number, fact in enumerate(branch.facts):
        between = branch.gap if number == 0 else " · "
        room = width if len(lines) == 1 else below
        if lines[-1].cell_len + len(between) + fact.cell_len <= room:
            lines[-1].append(between, "dim").append_text(fact)
        else:
            lines.append(Text().append_text(fact))
    return lines


def _wrapped(text: Text, width: int) -> list[Text]:
    parts = textwrap.wrap(text.plain, max(width, 10), max_lines=_MOST_LINES, placeholder=" …", break_on_hyphens=False) or [""]
    return [_whole(text)] if len(parts) == 1 else [_whole(Text(part, text.style)) for part in parts]


def _remarks(status: CampaignStatus, width: int) -> Iterator[Text]:
    for remark in status.remarks:
        yield from _wrapped(Text(plain(f"! {remark}", None), "yellow"), width)


def _whole(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
