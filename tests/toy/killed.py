"""A driver that dies without a word, or freezes, at a named point."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from toy.world import install
from workflow.draft import load_campaign
from workflow.driver import Driver


def main() -> None:
    path, point, nth, number = sys.argv[1:]
    left = [int(nth)]

    def die(passed: str) -> None:
        left[0] -= passed == point and left[0] > 0
        if left[0] == 0:
            left[0] = -1
            os.kill(os.getpid(), signal.Signals[number])

    install()
    Driver(load_campaign(Path(path)), passing=die).run()


if __name__ == "__main__":
    main()
