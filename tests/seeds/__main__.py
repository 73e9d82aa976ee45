"""Run any number of histories: `python -m seeds --count 1000000` (see `make seeds`)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from seeds.running import Summary, run_in_processes
from seeds.weather import FAULTS
from workflow.batch.protocol import TABLE


def main() -> int:
    """Run, print what was seen, and as the last line one JSON object; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m seeds", description="Try the promises R1 to R11 on histories made by seeds.")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=10_000, help="how many")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="how many at a time")
    asked = parser.parse_args()
    began = time.monotonic()

    def tell(so_far: Summary) -> None:
        sys.stderr.write(f"\r{so_far.seeds} of {asked.count} seeds, {len(so_far.broken)} broke a promise ")

    total = run_in_processes(asked.first, asked.count, asked.processes, tell)
    sys.stderr.write("\n")
    for title, counts, known in (
        ("row of the table", total.rows, [row.name for row in TABLE]),
        ("fault", total.faults, FAULTS),
        ("driver killed at", total.points, sorted(total.points)),
    ):
        sys.stdout.write(f"{title:<40} times\n" + "".join(f"  {name:<38} {counts[name]}\n" for name in known) + "\n")
    for seed, lines in total.broken.items():
        sys.stdout.write(f"seed {seed}: {'; '.join(lines)}\n")
    facts = {"seeds": total.seeds, "broken": len(total.broken), "duplicated": total.duplicated, "lost": total.lost}
    sys.stdout.write(json.dumps({**facts, "jobs": total.jobs, "seconds": round(time.monotonic() - began)}) + "\n")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
