"""The real agent, which knows toy stages too, with a fate where one is laid down for its attempt: `agent.py ATTEMPT_FOLDER`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, by a job that knows the package alone

from dying import Fate, fated
from toy.world import know_kinds

from workflow.allocation import agent
from workflow.request import read_request
from workflow.rundir import AttemptDir

FATES = "fates.json"
_LOOK_S = 0.02


def fate_of(attempt: AttemptDir) -> str:
    """Return the point at which the agent of an attempt is to die; empty where none is laid down."""
    request = read_request(attempt.request)
    path = Path(request.campaign) / FATES
    fates = json.loads(path.read_text()) if path.exists() else {}
    return str(fates.get(f"{request.stage} {request.link} {request.attempt}", ""))


def watch(attempt: AttemptDir, pattern: str, fate: Fate) -> None:
    """Pass a point as soon as a file of this pattern stands in an attempt's run folder."""
    while not any(attempt.run.glob(pattern)):
        time.sleep(_LOOK_S)
    fate.passing(f"stands {pattern}")


def main() -> None:
    know_kinds()
    attempt = AttemptDir(Path(sys.argv[1]))
    point = fate_of(attempt)
    fate = Fate(point)
    if point.startswith("stands "):
        fate = Fate("stands *")
        threading.Thread(target=watch, args=(attempt, point.removeprefix("stands "), fate), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with fated(fate) if point else contextlib.nullcontext():
        code = agent.main(sys.argv)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
