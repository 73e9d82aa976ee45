"""When a trial is worth no more epochs: successive halving at rungs, without waiting for the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving that stops trials (Li et al., MLSys 2020, arXiv:1810.05934, in its stopping form).

    A trial that reaches a rung goes on if it is among the best 1/η of the trials that have reached that rung so
    far. The first one always goes on, so that some trial sees all epochs.

    Attributes:
        epochs: Epochs of a whole trial.
        eta: η: one trial in so many goes on.
    """

    epochs: int
    eta: int = 3

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the epochs after which trials are compared, ascending; the last epoch is none."""
        found, rung = [], self.epochs
        while rung > 1:
            rung = -(-rung // self.eta)
            found.append(rung)
        return tuple(sorted(each for each in set(found) if each < self.epochs))

    def goes_on(self, objective: float, others: Iterable[float]) -> bool:
        """Say whether a trial goes on from a rung, given the objectives of the others that reached it."""
        values = [objective, *others]
        return sum(value < objective for value in values) < math.ceil(len(values) / self.eta)


def best_until(folder: Path, epochs: int) -> float | None:
    """Return a training's best objective within its first `epochs`; None before it has seen so many."""
    try:
        lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    except FileNotFoundError:
        return None
    seen = [line for line in lines if line["epoch"] <= epochs and line.get("objective") is not None]
    if not seen or max(line["epoch"] for line in lines) < epochs:
        return None
    return float(min(line["objective"] for line in seen))
