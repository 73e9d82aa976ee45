"""Whether faults make jobs run twice or get lost: the promises of durable execution on histories made by seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench import timing

TESTS = Path(__file__).parent.parent / "tests"


def fault_runs(count: int) -> timing.Figures:
    """Return how many jobs had effect twice, and how many accepted ones were lost, over so many seeds.

    Every seed is one history of a campaign in which batch system, disk and drivers do their worst; the checker reads files and
    the truth that the batch system knows. Nothing is returned where the histories are not at hand.
    """
    if not (TESTS / "seeds").is_dir():
        timing.say(f"\nno histories at {TESTS / 'seeds'}: duplicated, lost and seeds are not measured")
        return {}
    command = [sys.executable, "-m", "seeds", "--count", str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    rows = [["histories", "jobs", "ran twice", "lost"], [f"{told[each]:,}" for each in ("seeds", "jobs", "duplicated", "lost")]]
    timing.say_table("faults of batch system, disk and drivers, by seeds", rows)
    return {name: told[name] for name in ("duplicated", "lost", "seeds")}
