"""Model commands as tests start them: real ranks under mpiexec, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from stores import SPLITS

from model import checkpoint
from model.outcome import Outcome, read_outcome

torch.set_num_threads(1)  # the tensors of tests are so small that more threads only wait for one another

ROOT = Path(__file__).parents[1]
MPIEXEC = Path(sys.executable).with_name("mpiexec")

KILL_AT_RENAME = """
import os, runpy, signal, sys
left, real = int(sys.argv.pop(1)), os.replace
def replace(*args, **kwargs):
    global left
    left -= "checkpoints" in str(args[0])
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
os.replace = replace
runpy.run_module("model", run_name="__main__", alter_sys=True)
"""
"""`python -c` program: the model command, killed by itself just before the n-th rename within a checkpoint."""


LOG_LOSSES = """
import runpy, sys
from model.training.stepping import Stepper
step = Stepper.step
def logged(self, *args):
    totals = step(self, *args)
    if self._ranks.is_first:
        with open("losses.log", "a") as file:
            file.write(f"{float(totals[0]).hex()}\\n")
    return totals
Stepper.step = logged
runpy.run_module("model", run_name="__main__", alter_sys=True)
"""
"""`python -c` program: the model command, which also writes down the loss of every step."""


def config(stores: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """Return a small FP64 training over some stores, with clipping and averaging on."""
    shares = (0.4, 0.35, 0.25)
    return {
        "model": {"backbone": {"name": "painn", "layers": 2, "hidden": 8}, "cutoff": 4.0, "head_hidden": 8},
        "branches": {n: {"store": str(s), "share": p} for (n, s), p in zip(stores.items(), shares, strict=False)},
        "splits": SPLITS.model_dump(),
        "precision": "fp64",
        "batch": 7,
        "epochs": 2,
        "optimizer": {"learning_rate": 0.003, "clip_norm": 1.0, "ema": 0.9},
    } | changes


def start(
    folder: Path, fields: dict[str, Any], ranks: int, *, command: str = "train", kill_at: int = 0, logged: bool = False
) -> subprocess.Popen[str]:
    """Start a model command in a new folder; with `kill_at`, every rank kills itself before its n-th checkpoint rename.

    With `logged`, the first rank writes down the loss of every step.
    """
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    program = ["-c", KILL_AT_RENAME, str(kill_at)] if kill_at else ["-c", LOG_LOSSES] if logged else ["-m", "model"]
    argv = [str(MPIEXEC), "-n", str(ranks), sys.executable, *program, command, "config.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(argv, cwd=folder, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)


def run(folder: Path, fields: dict[str, Any], ranks: int, *, command: str = "train", logged: bool = False) -> Outcome:
    """Run a model command to its end."""
    code = start(folder, fields, ranks, command=command, logged=logged).wait(120)
    outcome = read_outcome(folder)
    assert outcome is not None, (code, (folder / "log").read_text()[-2000:])
    return outcome


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of the last checkpoint, by group and kind."""
    last = folder / "checkpoints" / "last"
    groups = checkpoint.load_groups(last, checkpoint.read_meta(last))
    kinds = ("weights", "first", "second", "average")
    return {f"{g}.{k}": getattr(state, k) for g, state in groups.items() for k in kinds if getattr(state, k) is not None}


def standing(folder: Path) -> dict[str, Any]:
    """Return the state of the last checkpoint without what the clock put there."""
    fields = checkpoint.read_meta(folder / "checkpoints" / "last").state["standing"]
    timed = ("elapsed_s", "seconds_to_best")
    history = [{k: v for k, v in line.items() if k not in ("t", "structures_per_s")} for line in fields["history"]]
    return {k: v for k, v in fields.items() if k not in timed} | {"history": history}


def losses(folder: Path) -> list[float]:
    """Return the loss of each step of a run that wrote them down."""
    return [float.fromhex(line) for line in (folder / "losses.log").read_text().split()]


def steps(folder: Path) -> list[int]:
    """Return the numbers of the steps that rank 0 executed, in order."""
    log = folder / "steps.log"
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []
