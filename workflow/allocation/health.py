"""Which nodes do not answer: a trivial call on all, timed; divided until the bad ones stand alone."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import BoundedSemaphore

from workflow.allocation.guard import KILL_ALL
from workflow.allocation.launch import Setting, start, write_hosts
from workflow.errors import CampaignError

logger = logging.getLogger(__name__)
_TRIVIAL = ("true",)
_LOOK_S = 0.5


def silent_nodes(nodes: tuple[str, ...], answers: Callable[[tuple[str, ...]], bool], at_once: int = 32) -> list[str]:
    """Return the nodes that do not answer, with one call when all do, and in few rounds when some hang.

    A group that does not answer is divided, its parts are asked side by side; a node that stands alone is asked a
    second time, for setting it aside costs more than asking again.

    Args:
        nodes: Nodes to ask.
        answers: Whether one call over these nodes succeeds; called from several threads.
        at_once: Most calls side by side, and parts of a group.
    """
    groups: list[tuple[str, ...]] = [nodes] if nodes else []
    asked_alone: set[str] = set()
    silent: list[str] = []
    while groups:
        with ThreadPoolExecutor(at_once) as pool:
            failed = [group for group, good in zip(groups, pool.map(answers, groups), strict=True) if not good]
        silent += [node for (node, *others) in failed if not others and node in asked_alone]
        groups = [part for group in failed for part in _divided(group, at_once) if part[0] not in silent]
        asked_alone.update(group[0] for group in failed if len(group) == 1)
    return silent


def _divided(nodes: tuple[str, ...], parts: int) -> list[tuple[str, ...]]:
    size = -(-len(nodes) // parts)
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]


class Probe:
    """Ask nodes for a sign of life by the same launcher that starts the tasks.

    Args:
        setting: See `Setting`.
        folder: Where the calls leave their logs and host lists.
        timeout_s: Seconds after which a call counts as unanswered.
        is_over: Whether the allocation ends, so that nothing more is waited for.
        at_once: Most calls side by side, whoever asks: many tasks may fail at once, and a launcher bears about a hundred calls.
    """

    def __init__(
        self, setting: Setting, folder: Path, timeout_s: float, is_over: Callable[[], bool] = lambda: False, at_once: int = 32
    ) -> None:
        self._setting, self._folder, self._timeout_s, self._is_over = setting, folder, timeout_s, is_over
        self._at_once, self._room = at_once, BoundedSemaphore(at_once)
        self._numbers = count(1)  # its `next` is atomic: several tasks may fail at once

    def __call__(self, nodes: tuple[str, ...]) -> list[str]:
        """Return those of `nodes` that do not answer."""
        silent = silent_nodes(nodes, self._answers, self._at_once)
        if silent:
            logger.warning("nodes that do not answer: %s", ", ".join(silent))
        return silent

    def _answers(self, nodes: tuple[str, ...]) -> bool:
        while not self._is_over():
            folder = self._folder / str(next(self._numbers))
            with self._room:
                if call_on_each(self._setting, nodes, _TRIVIAL, folder, after(self._timeout_s)):
                    return True
            if not self._setting.readiness.excuses():
                return False
            self._setting.readiness.wait(self._is_over)
        return True  # an allocation that ends proves nothing of its nodes


def call_on_each(
    setting: Setting, nodes: tuple[str, ...], command: tuple[str, ...], folder: Path, give_up: Callable[[], bool]
) -> bool:
    """Run a command once on each node, outside the queue of tasks; say whether all ended well before `give_up` said so.

    It is run again where it failed while the launcher could start nothing: that is no failure of the nodes.
    """
    folder.mkdir(parents=True)
    placement = setting.placement(nodes, 1, folder, beside=True)
    try:
        write_hosts(placement)
        call = setting.launcher.argv(placement, command)
    except (OSError, CampaignError) as error:
        logger.warning("not started: %s", error)
        return False
    while not call_once(call, folder, setting.environment_on(nodes), give_up):
        if not setting.readiness.excuses() or not setting.readiness.wait(give_up):
            return False
    return True


def call_once(call: Sequence[str], folder: Path, environment: Mapping[str, str], give_up: Callable[[], bool]) -> bool:
    """Run a call in a folder that stands; say whether it ended well before `give_up` said so."""
    try:
        process = start(call, folder, environment, 1.0)
    except OSError as error:
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
