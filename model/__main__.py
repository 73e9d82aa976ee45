"""`python -m model COMMAND CONFIG`: run one command on all ranks and leave `outcome.json`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
import traceback
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from model import owner, parallel
from model.allocator import keep_freed_memory
from model.config import Task, load
from model.faults import PeerLost, cause_of, message_of
from model.lean import without_collection
from model.outcome import OUTCOME_FILE, CampaignError, Cause, Outcome, Status, read_outcome, write_json, write_outcome
from model.parallel import Ranks

MODULES = {
    "train": "model.training.trainer",
    "finetune": "model.training.finetune",
    "evaluate": "model.training.evaluate",
    "blend": "model.inference.blend",
    "screen": "model.inference.screen",
    "convert": "model.data.convert",
    "leakage": "model.data.leakage",
    "probe": "model.probe",
}
"""Where each command's `run(config, folder, ranks) -> Outcome` stands."""

_EPILOG = """commands:
  convert    one branch, from published containers to a store
  leakage    count a task's structures that the training splits of branches hold too
  train      train; `resume` in the file goes on exactly
  finetune   adapt a trained model to one task by one strategy
  evaluate   errors of a checkpoint on one split, beside baselines
  blend      branch weights from composition
  screen     energies, forces and a ranking of candidates
  check      build models once without memory: do they fit together, and how large are they; takes any number of files
  probe      what ranks see of their nodes
  bench      errors and speed of FP32 and BF16; it has options instead of a file: `python -m model bench precision --help`

examples:
  python -m model train train.yaml
  python -m model convert convert.yaml       as every command also as MPI ranks, under a launcher
  python -m model leakage leakage.yaml       task: stores/qm9, against: {ani1x: stores/ani1x}, splits: {seed: 0}

What came out is in outcome.json, in the folder where the command was started.
exit codes: 0 done or stopped in order, 1 failed, 2 wrong usage"""

_WITHOUT_TORCH = ("convert", "leakage")
_PACKAGES = ("torch", "numpy", "adios2", "mpi4py", "vesin", "ase")
_OF_ONE_RANK = (Cause.OOM, Cause.STORAGE, Cause.BUG)
"""Faults that say more when the rank is named; the others come to all ranks."""
_PEER_WORD_S = 3.0
"""How long a rank that lost a peer waits for that peer's own account of the fault."""


def main() -> int:
    """Run the command and return the exit code: 0 for done or partial, 1 for failed, 2 for wrong usage."""
    if sys.argv[1:2] == ["bench"]:
        return int(importlib.import_module("model.bench").run(sys.argv[2:]))
    arguments = _parse()
    if arguments.command == "check":
        with without_collection():
            check = importlib.import_module("model.check")
        return int(check.run(arguments.configs))
    path: Path = arguments.configs[0]
    start = time.monotonic()
    folder, ranks = Path.cwd(), Ranks()
    config: Task | None = None
    try:
        ranks = parallel.discover()
        _drop_old_outcome(folder, ranks)
        config = load(arguments.command, path)
        with without_collection():
            ranks = _begin(arguments.command, config, folder, ranks)
            command = importlib.import_module(MODULES[arguments.command])
        outcome = command.run(config, folder, ranks)
    except BaseException as error:
        return _fail(error, folder, ranks, config)
    return _finish(outcome, folder, ranks, config, time.monotonic() - start)


def _parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__, epilog=_EPILOG, formatter_class=raw)
    parser.add_argument("command", choices=[*MODULES, "check"], help="what to do, see below")
    parser.add_argument("configs", metavar="config", nargs="+", type=Path, help="YAML file; see model/config.py for its keys")
    arguments = parser.parse_args()
    if arguments.command != "check" and len(arguments.configs) > 1:
        parser.error(f"{arguments.command} takes one file")
    return arguments


def _drop_old_outcome(folder: Path, ranks: Ranks) -> None:
    """Remove what an earlier run of this folder left: from here on an outcome tells of this run."""
    if ranks.is_first:
        (folder / OUTCOME_FILE).unlink(missing_ok=True)
    ranks.barrier()


def _begin(command: str, config: Task, folder: Path, ranks: Ranks) -> Ranks:
    """Start the owner watch and set up torch; return the ranks with their nodes' names."""
    owner.watch(config.owner, folder, ranks.rank)
    ranks = ranks.on_nodes(config.node_variable)
    keep_freed_memory()
    if command not in _WITHOUT_TORCH:
        importlib.import_module("model.device").prepare(config)
    return ranks


def _finish(outcome: Outcome, folder: Path, ranks: Ranks, config: Task, seconds: float) -> int:
    ranks.barrier()
    if ranks.is_first:
        owner.require_commit(config.owner)
        write_outcome(folder, _complete(outcome, ranks, seconds))
    return 1 if outcome.status is Status.FAILED else 0


def _fail(error: BaseException, folder: Path, ranks: Ranks, config: Task | None) -> int:
    """Leave an outcome for a fault on this rank, then end every rank: the others cannot go on alone."""
    cause, (message, remedy) = cause_of(error), message_of(error)
    by_user = isinstance(error, CampaignError)  # it says all there is to say
    sys.stderr.write(f"error: {error}\n" if by_user else "".join(traceback.format_exception(error)))
    if isinstance(error, PeerLost) and _peer_has_spoken(folder):
        ranks.abort()
    owner.require_commit(config.owner if config else None)
    if cause is Cause.BUG:
        (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
        remedy = f"See {folder / 'traceback.txt'}."
    where = f"rank {ranks.rank}: " if ranks.size > 1 and cause in _OF_ONE_RANK else ""
    _write_first(folder, _complete(Outcome(Status.FAILED, cause, where + message, remedy), ranks, 0.0))
    if ranks.size > 1:
        ranks.abort()
    return 1


def _complete(outcome: Outcome, ranks: Ranks, seconds: float) -> Outcome:
    return replace(
        outcome,
        world_size=ranks.size,
        hosts=tuple(sorted(set(ranks.hosts))),
        versions=_versions(),
        timings_s={**outcome.timings_s, "command": round(seconds, 3)},
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write_first(folder: Path, outcome: Outcome) -> None:
    """Write the outcome unless another rank has already told its own: the first fault is the cause, the rest follow."""
    beside = folder / f".{OUTCOME_FILE}.{platform.node()}.{os.getpid()}"
    write_json(beside, _as_json(outcome))
    try:
        os.link(beside, folder / OUTCOME_FILE)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not (folder / OUTCOME_FILE).exists():
            beside.replace(folder / OUTCOME_FILE)
    beside.unlink(missing_ok=True)


def _as_json(outcome: Outcome) -> dict[str, object]:
    return dict(vars(outcome))


def _peer_has_spoken(folder: Path) -> bool:
    deadline = time.monotonic() + _PEER_WORD_S
    while time.monotonic() < deadline:
        if read_outcome(folder) is not None:
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    sys.exit(main())
