"""Run `python -m model.data.quickstart FOLDER`: make every file of the quickstart's data that is not there yet."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from model.data.quickstart.files import FILES, make, write


def main() -> None:
    """Read the command line and make the files."""
    parser = argparse.ArgumentParser(prog="python -m model.data.quickstart", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go; those that stand there are kept")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="processes that compute (default 2)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: xTB's threads spin against each other on few cores
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        for number, file in enumerate(FILES):
            path = arguments.folder / file.name
            if path.exists():
                say(f"{path}: kept\n")
                continue
            began = time.monotonic()
            structures = make(file, (arguments.seed, number), pool.map, partial(progress, path))
            write(path, structures, file)
            say(f"{path}: {len(structures)} structures, {file.purpose}, {time.monotonic() - began:.1f} s\n")


def progress(path: Path, done: int, total: int) -> None:
    """Show how far a file is, where someone looks."""
    if sys.stdout.isatty():
        say(f"{path}: {done} of {total} groups")


def say(text: str) -> None:
    """Write over the line that stands there, at once."""
    sys.stdout.write(("\r\x1b[K" if sys.stdout.isatty() else "") + text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
