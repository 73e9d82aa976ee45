"""The `mpiexec` of HPE PALS, as far as we call it: real MPI ranks of MPICH on the virtual nodes of a job."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

# Hydra must not ask PBS's own variables for nodes: it would put the ranks of one node on another.
_HYDRA = ("-launcher", "fork", "-localhost", "localhost", "-hosts", "localhost")


def main() -> None:
    """Start the ranks; the exit code is MPICH's own: what PALS makes of a rank that is killed is not known."""
    call, command = _arguments()
    root = Path(os.environ["PBS_CONF_FILE"]).parent
    conf = dict(line.split("=", 1) for line in (root / "pbs.conf").read_text().splitlines())
    try:
        allocated = Path(os.environ["PBS_NODEFILE"]).read_text().split()
    except (KeyError, OSError):
        _refuse("no job: it is called on the first node of one")
    nodes = Path(call.hostfile).read_text().split() if call.hostfile else allocated
    if foreign := sorted(set(nodes) - set(allocated)):
        _refuse(f"not in this job: {', '.join(foreign)}")
    if call.n != call.ppn * len(nodes):
        _refuse(f"{call.n} ranks are not {call.ppn} on each of {len(nodes)} nodes")
    binding = _binding(call.cpu_bind, call.ppn)
    sections: list[str] = []
    for number, node in enumerate(nodes):
        rank = [str(root / "rank"), str(number * call.ppn), str(number), binding]
        sections += [*([":"] if number else []), "-n", str(call.ppn), str(root / "enter"), node, *rank, *command]
    os.execv(conf["MPIEXEC"], [conf["MPIEXEC"], *_HYDRA, *sections])


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    reader = argparse.ArgumentParser(prog="mpiexec", allow_abbrev=False)
    reader.add_argument("--hostfile")
    reader.add_argument("-n", type=int, required=True)
    reader.add_argument("-ppn", type=int, required=True)
    reader.add_argument("--envall", action="store_true", required=True)  # ranks never start without our variables here
    reader.add_argument("--no-vni", action="store_true")  # there is no Slingshot network here
    reader.add_argument("--cpu-bind", default="")
    reader.add_argument("command", nargs=argparse.REMAINDER)
    call = reader.parse_args()
    return call, call.command


def _binding(text: str, ranks: int) -> str:
    """Return a list of cores for each rank, joined by `:`; a node has as many cores as this machine, counted round."""
    if not text:
        return ""
    kind, _, lists = text.partition(":")
    parts = lists.split(":")
    if kind != "list" or len(parts) < ranks or not all(re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", part) for part in parts):
        _refuse(f"--cpu-bind={text} is no list of cores for each of {ranks} ranks")
    return ":".join(_here(part) for part in parts)


def _here(part: str) -> str:
    have = sorted(os.sched_getaffinity(0))
    ends = [[int(end) for end in each.split("-")] for each in part.split(",")]
    wanted = {core for each in ends for core in range(each[0], each[-1] + 1)}
    return ",".join(str(core) for core in sorted({have[core % len(have)] for core in wanted}))


def _refuse(words: str) -> NoReturn:
    sys.exit(f"mpiexec: {words}")


if __name__ == "__main__":
    main()
