"""Programs that tests run as real MPI ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def run(program: str, ranks: int, *arguments: str, nodes: str = "", timeout_s: float = 90, code: int = 0) -> list[str]:
    """Run a Python program on ranks; return the lines of its output, sorted.

    Args:
        program: Its text; `argv` and `ranks` are there, `ranks` with the nodes' names of `nodes`.
        ranks: How many.
        arguments: Of the program.
        nodes: One letter for each rank, the name of its virtual node; empty: one node.
        timeout_s: After which all ranks are ended, with code 124.
        code: What it must end with.
    """
    head = "\n".join(
        [
            "import sys, time",
            "from dataclasses import replace",
            "from model import parallel",
            "argv = sys.argv[2:]",
            "ranks = parallel.discover()",
            "ranks = replace(ranks, hosts=tuple(sys.argv[1] or 'a' * ranks.size))",
        ]
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    limit = ["timeout", "--kill-after=5", str(timeout_s)]  # ends mpiexec, which ends the ranks
    argv = [*limit, str(MPIEXEC), "-n", str(ranks), sys.executable, "-c", f"{head}\n{program}", nodes, *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, (done.returncode, done.stderr[-3000:])
    return sorted(done.stdout.splitlines())
