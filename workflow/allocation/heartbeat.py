"""The file by which others know that the agent lives, and what its allocation is doing."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
_PATIENCE_S = 1.0  # for the facts of the first count and the last


class Heartbeat:
    """Write a growing `count` with live facts, from a thread, until stopped.

    The count waits for nobody: facts are gathered by a thread of its own, since they stand in files of others, which a
    file system may hold back for ever, and the newest that are there go with each count.

    The file appears whole or not at all but is not fsynced: it is worth nothing after a power cut, and it is
    written every few seconds on a parallel file system.

    Args:
        path: The heartbeat file.
        period_s: Seconds between two counts.
        facts: Gives what stands beside the count; called from that thread, after each count.
        watch: Called at every beat, such as to look for a file that asks to stop.
    """

    def __init__(self, path: Path, period_s: float, facts: Callable[[], dict[str, Any]], watch: Callable[[], None]) -> None:
        self._path, self._period_s, self._facts, self._watch = path, period_s, facts, watch
        self._count = 0
        self._writer = {"pid": os.getpid(), "host": socket.gethostname()}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._newest: dict[str, Any] = {}
        self._asked = self._served = 0
        self._is_over = False
        self._news = threading.Condition()
        self._gatherer = threading.Thread(target=self._gather, name="heartbeat-facts", daemon=True)

    def start(self) -> None:
        """Write the first count at once, with facts if they come in a moment, then go on."""
        self._gatherer.start()
        self._ask(_PATIENCE_S)
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """Write a last count and end."""
        self._ended.set()
        self._thread.join(timeout=10 * self._period_s)
        self._ask(_PATIENCE_S)
        self.beat()
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def beat(self) -> None:
        """Write the next count; a failing file system is logged and tried again at the next beat."""
        facts = self._newest
        with self._lock:
            self._count += 1
            self._safely(lambda: replace_json(self._path, {"count": self._count, "t": time.time(), **self._writer, **facts}))

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            self._safely(self._watch)
            self.beat()
            self._ask()

    def _ask(self, patience_s: float = 0.0) -> None:
        """Have facts gathered anew, and wait for them so long at most."""
        with self._news:
            self._asked += 1
            asked = self._asked
            self._news.notify_all()
            self._news.wait_for(lambda: self._served >= asked, patience_s)

    def _gather(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._is_over or self._served < self._asked)
                asked = self._asked
            if self._is_over:
                return
            facts = self._safely(self._facts) or {}
            with self._news:
                self._newest, self._served = facts, asked
                self._news.notify_all()

    @staticmethod
    def _safely(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception:  # a fault in one fact, or a full disk for a moment, must not look like the agent's death
            logger.exception("heartbeat")
            return None


def replace_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all, without waiting for the disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value))
    beside.replace(path)
