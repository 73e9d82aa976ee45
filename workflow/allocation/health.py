"""Which nodes do not answer: a trivial call on each, timed; halved until the bad ones stand alone."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from workflow.allocation.guard import KILL_ALL
from workflow.allocation.launch import Setting, start, write_hosts
from workflow.errors import CampaignError

logger = logging.getLogger(__name__)
_TRIVIAL = ("true",)
_LOOK_S = 0.5


def silent_nodes(nodes: tuple[str, ...], answers: Callable[[tuple[str, ...]], bool]) -> list[str]:
    """Return the nodes that do not answer, with few calls when nearly all do.

    Args:
        nodes: Nodes to ask.
        answers: Whether one call over these nodes succeeds.
    """
    if not nodes or answers(nodes):
        return []
    if len(nodes) == 1:
        return list(nodes)
    half = len(nodes) // 2
    return silent_nodes(nodes[:half], answers) + silent_nodes(nodes[half:], answers)


class Probe:
    """Ask nodes for a sign of life by the same launcher that starts the tasks.

    Args:
        setting: See `Setting`.
        folder: Where the calls leave their logs and host lists.
        timeout_s: Seconds after which a call counts as unanswered.
    """

    def __init__(self, setting: Setting, folder: Path, timeout_s: float) -> None:
        self._setting, self._folder, self._timeout_s = setting, folder, timeout_s
        self._numbers = count(1)  # its `next` is atomic: several tasks may fail at once

    def __call__(self, nodes: tuple[str, ...]) -> list[str]:
        """Return those of `nodes` that do not answer."""
        silent = silent_nodes(nodes, self._answers)
        if silent:
            logger.warning("nodes that do not answer: %s", ", ".join(silent))
        return silent

    def _answers(self, nodes: tuple[str, ...]) -> bool:
        folder = self._folder / str(next(self._numbers))
        return call_on_each(self._setting, nodes, _TRIVIAL, folder, after(self._timeout_s))


def call_on_each(
    setting: Setting, nodes: tuple[str, ...], command: tuple[str, ...], folder: Path, give_up: Callable[[], bool]
) -> bool:
    """Run a command once on each node, outside the queue of tasks; say whether all ended well before `give_up` said so."""
    folder.mkdir(parents=True)
    placement = setting.placement(nodes, 1, folder)
    try:
        write_hosts(placement)
        process = start(setting.launcher.argv(placement, command), folder, setting.environment, 1.0)
    except (OSError, CampaignError) as error:
        logger.warning("not started: %s", error)
        return False
    return _ends_well(process, give_up)


def after(timeout_s: float) -> Callable[[], bool]:
    """Return a question that is answered with yes once the time is over."""
    end = time.monotonic() + timeout_s
    return lambda: time.monotonic() >= end


def _ends_well(process: subprocess.Popen[bytes], give_up: Callable[[], bool]) -> bool:
    while not give_up():
        try:
            return process.wait(_LOOK_S) == 0
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(KILL_ALL)
    process.wait()
    return False
