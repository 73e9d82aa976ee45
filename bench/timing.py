"""What the benches share: CPU time of arms that take turns, and a report whose last line is one JSON object."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Figures = dict[str, float | bool | str]


def is_small(description: str) -> bool:
    """Read the command line; True with `--small`: seconds instead of minutes, for tests, its figures worth nothing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="a run of seconds that shows only that the bench works")
    return bool(parser.parse_args().small)


def cpu_s() -> float:
    """Return the CPU seconds of this process with all its threads, and of the children that it has waited for."""
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + child.ru_utime + child.ru_stime


def take_turns(arms: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each arm in each round; arms take turns, so that a busy neighbour slows all of them.

    Args:
        arms: Work by name, called with the number of the round; -1 is an untimed call before the first round.
        rounds: Timed rounds. The arm that goes first changes from round to round.
    """
    for work in arms.values():
        work(-1)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            began = cpu_s()
            arms[name](number)
            seconds[name].append(cpu_s() - began)
    return seconds


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """Return how many times faster ours is: the median over the rounds of baseline over ours."""
    return statistics.median(b / a for a, b in zip(ours, baseline, strict=True))


def rate(count: float, seconds: Sequence[float]) -> float:
    """Return counts per CPU-second: the median over the rounds."""
    return statistics.median(count / each for each in seconds)


def say(line: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_machine() -> None:
    """Print where this is measured, and how busy the machine is."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    say(f"{platform.machine()}, {os.cpu_count()} cores, load {load}; one thread, CPU-seconds, python {platform.python_version()}")


def say_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first one to the left."""
    say(f"\n{title}")
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))]
        say("  " + "  ".join(cells).rstrip())


def finish(figures: Figures, *, small: bool) -> None:
    """Print the figures as the last line.

    Raises:
        ValueError: A figure is no finite number above zero.
    """
    for name, value in figures.items():
        if isinstance(value, float) and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}")
    rounded = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in figures.items()}
    say()
    say(json.dumps(rounded | ({"small": True} if small else {})))
