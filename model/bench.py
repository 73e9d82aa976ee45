"""`python -m model bench precision`: what FP32 and BF16 change in the answers of a trained model, beside its own in FP64."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from model.arguments import positive
from model.data.block import Block
from model.inference.predictor import Predicted, Predictor
from model.outcome import CampaignError
from model.precision import POLICIES
from model.specs import Precision
from model.training.branches import read_split

_EXACT: Precision = "fp64"
_EXAMPLES = """examples:
  python -m model bench precision checkpoints/best --branch ani1x=stores/ani1x-0f3c
  python -m model bench precision checkpoints/best --branch a=stores/a --branch b=stores/b --split validation --structures 2000

exit codes: 0 done, 2 wrong input"""


@dataclass(frozen=True)
class Errors:
    """How far one precision's answers are from those in FP64; and, for FP64 itself, from the labels.

    Attributes:
        energy_mae: Mean |ΔE/N|, meV/atom; None where nothing is labelled with energies.
        energy_max: Largest |ΔE/N|, meV/atom; likewise.
        force_mae: Mean |ΔF| of components, meV/Å; None where nothing is labelled with forces.
        force_max: Largest |ΔF| of components, meV/Å; likewise.
        force_relative: √⟨ΔF²⟩ over √⟨F²⟩ of FP64, or of the labels; likewise.
        structures_per_cpu_s: Speed of energies and forces, neighbour lists included, in CPU-seconds of this process.
    """

    energy_mae: float | None
    energy_max: float | None
    force_mae: float | None
    force_max: float | None
    force_relative: float | None
    structures_per_cpu_s: float


def run(arguments: Sequence[str]) -> int:
    """Measure, print a table, and as the last line one JSON object.

    Returns:
        0, or 2 where checkpoint and stores do not fit: then what is wrong stands on the error output.
    """
    asked = _parse(arguments)
    torch.set_num_threads(asked.threads)
    try:
        branches = dict(_branch(each) for each in asked.branch)
        found = {
            name: precisions(asked.checkpoint, name, store, asked.split, asked.structures) for name, store in branches.items()
        }
    except CampaignError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for name, errors in found.items():
        sys.stdout.write(f"\n{name}, {asked.split} split of {branches[name]}\n" + "\n".join(table(errors)) + "\n")
    answer = {name: {row: asdict(each) for row, each in errors.items()} for name, errors in found.items()}
    sys.stdout.write("\n" + json.dumps({"checkpoint": str(asked.checkpoint), "split": asked.split, "branches": answer}) + "\n")
    return 0


def precisions(checkpoint: Path, branch: str, store: Path, split: str, most: int) -> dict[str, Errors]:
    """Return the errors of each precision by its name, and as `model` those of the model itself, in FP64, against the labels.

    Args:
        checkpoint: A trained model; on random weights the errors mean nothing.
        branch: The branch that predicts.
        store: Structures, with elements that the branch knows.
        split: By the model's own splits.
        most: Structures at most, spread over the split.

    Raises:
        CampaignError: The branch is none, or predicts no energy; or no structure can be asked about.
    """
    exact = Predictor.load(checkpoint, precision=_EXACT)
    if branch in exact.meta.statistics.targets:
        raise CampaignError(f"branch '{branch}' predicts no energy", str(checkpoint), "Name a branch with energies.")
    block = _askable(exact, branch, read_split(store, exact.meta.splits, split), most, store)
    spent = {
        name: _timed(exact if name == _EXACT else Predictor.load(checkpoint, precision=name), branch, block) for name in POLICIES
    }
    truth = spent[_EXACT][0]
    own = _errors(truth.energy - block.energy, truth.forces - block.forces, block.forces, block, spent[_EXACT][1])
    found = {"model": own}
    for name, (answer, seconds) in spent.items():
        found[name] = _errors(answer.residual - truth.residual, answer.forces - truth.forces, truth.forces, block, seconds)
    return found


def table(errors: dict[str, Errors]) -> list[str]:
    """Return rows in columns: the model's own errors, then those that each precision adds."""
    heads = ["", "E-MAE meV/atom", "E-max", "F-MAE meV/Å", "F-max", "F relative", "structures/CPU-s"]
    rows = [heads, *([_TITLES.get(name, name), *map(_number, asdict(each).values())] for name, each in errors.items())]
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    return [
        "  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


_TITLES = {"model": "the model in fp64, against labels"} | {str(name): f"{name}, against fp64" for name in POLICIES}


def _askable(predictor: Predictor, branch: str, block: Block, most: int, store: Path) -> Block:
    if not len(block):
        raise CampaignError("no structure in this split", str(store), "Name another with --split, or a larger store.")
    known = np.flatnonzero(predictor.known(block)[:, predictor.branch(branch)])
    if not len(known):
        what = f"no structure of this split has only elements that branch '{branch}' knows"
        raise CampaignError(what, str(store), "Name the store that the branch was trained on, or another split.")
    return block.take(known[np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).astype(np.int64))])


def _timed(predictor: Predictor, branch: str, block: Block) -> tuple[Predicted, float]:
    predictor.predict(block.take(np.arange(1)), branch)  # what is made at the first use is no time of a structure's
    began = time.process_time()
    answer = predictor.predict(block, branch)
    return answer, time.process_time() - began


def _errors(energy: np.ndarray, forces: np.ndarray, size: np.ndarray, block: Block, seconds: float) -> Errors:
    energy = 1e3 * np.abs(energy / block.num_atoms)
    energy = energy[np.isfinite(energy)]
    labelled = np.isfinite(forces)
    forces, size = 1e3 * np.abs(forces[labelled]), 1e3 * size[labelled]
    scale = float(np.sqrt(np.square(size).mean())) if len(size) else 0.0
    return Errors(
        energy_mae=float(energy.mean()) if len(energy) else None,
        energy_max=float(energy.max()) if len(energy) else None,
        force_mae=float(forces.mean()) if len(forces) else None,
        force_max=float(forces.max()) if len(forces) else None,
        force_relative=float(np.sqrt(np.square(forces).mean())) / scale if scale else None,
        structures_per_cpu_s=len(block) / max(seconds, 1e-9),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _branch(text: str) -> tuple[str, Path]:
    name, found, store = text.partition("=")
    if not found:
        raise CampaignError(f"'{text}' is no branch with its store", "--branch", "Say NAME=STORE.")
    return name, Path(store)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m model bench", description=__doc__, epilog=_EXAMPLES, formatter_class=raw)
    parser.add_argument("measure", choices=["precision"], help="what to measure")
    parser.add_argument("checkpoint", type=Path, help="folder of a trained model")
    parser.add_argument(
        "--branch", action="append", required=True, metavar="NAME=STORE", help="a branch and its store; repeatable"
    )
    parser.add_argument(
        "--split", default="test", choices=["train", "validation", "test"], help="by the model's splits; default: test"
    )
    parser.add_argument("--structures", type=positive, default=500, help="at most, spread over the split; default: 500")
    parser.add_argument("--threads", type=positive, default=1, help="threads of torch; default: 1")
    return parser.parse_args(arguments)
