"""Run `python -m model.data.quickstart FOLDER`: make every file of the quickstart's data that is not there yet."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from model.data.quickstart.files import FILES, make


def main() -> None:
    """Read the command line and make the files."""
    parser = argparse.ArgumentParser(prog="python -m model.data.quickstart", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go; those that stand there are kept")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="processes that compute (default 2)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        for number, file in enumerate(FILES):
            make(file, arguments.folder, (arguments.seed, number), pool.map)


if __name__ == "__main__":
    main()
