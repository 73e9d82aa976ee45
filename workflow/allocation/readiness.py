"""Whether the launcher can start anything at all: some cannot while the batch system's controller is away."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)
_ANSWER_S, _PAUSE_S, _LOOK_S = 30.0, 5.0, 0.5
_SETTLE_S = 120.0
"""Seconds after an absence in which a launcher may still fail or keep calls waiting. Seen on a real cluster: a call that ended
meanwhile holds its memory and cores until its node reports it again, a minute later."""


class Readiness:
    """Tells failures of a call that are nobody's fault, and waits them out. Safe to call from any thread.

    Args:
        command: Command that ends well while the launcher can start anything; empty: it always can.
        environment: Its whole environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = tuple(command), dict(environment)
        self._away_at = float("-inf")

    def excuses(self) -> bool:
        """Say whether a call that has just failed may have failed because the launcher could start nothing, now or lately."""
        return bool(self._command) and (not self._answers() or time.monotonic() - self._away_at < _SETTLE_S)

    def wait(self, give_up: Callable[[], bool]) -> bool:
        """Wait a moment, and until the launcher can start something; say whether it can, or `give_up` ended the waiting."""
        logger.warning("a call failed while `%s` did not end well, or soon after; it is made again", " ".join(self._command))
        ask_at = time.monotonic() + _PAUSE_S
        while not give_up():
            if time.monotonic() >= ask_at:
                if self._answers():
                    return True
                ask_at = time.monotonic() + _PAUSE_S
            time.sleep(_LOOK_S)
        return False

    def _answers(self) -> bool:
        options: dict[str, Any] = {"env": self._environment, "capture_output": True, "stdin": subprocess.DEVNULL}
        try:
            good = subprocess.run(self._command, timeout=_ANSWER_S, check=False, **options).returncode == 0
        except subprocess.TimeoutExpired:
            good = False
        except OSError:
            return True  # nobody can be asked, so nothing is known
        if not good:
            self._away_at = time.monotonic()
        return good
