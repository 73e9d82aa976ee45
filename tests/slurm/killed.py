"""A driver of real stages that dies without a word at a named point: `python -m slurm.killed FILE POINT NTH`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from workflow.draft import load_campaign
from workflow.driver import Driver


def main() -> None:
    path, point, nth = sys.argv[1:]
    left = int(nth)

    def die(passed: str) -> None:
        nonlocal left
        left -= passed == point
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    Driver(load_campaign(Path(path)), passing=die).run()


if __name__ == "__main__":
    main()
