"""The learning rate as a function of the step and of the cuts that validation has made; and when to stop for good."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.specs import OptimizerSpec


def decayed(now: int, warm: int, end: int) -> float:
    """Return how much of what follows warm-up is over, 0 to 1.

    Args:
        now: What the sampler's clock shows.
        warm: What it showed when warm-up ended.
        end: What it shows in the end.
    """
    return min(max(now - warm, 0) / max(end - warm, 1), 1.0)


def learning_rate(spec: OptimizerSpec, step: int, over: float, cuts: int = 0) -> float:
    """Return the learning rate of a step: linear warm-up, then by `schedule`, never below `final_fraction` of the peak.

    Args:
        spec: Peak, warm-up and decay.
        step: Global step, from 0.
        over: How much of what follows warm-up is over: `decayed`.
        cuts: Cuts so far (plateau).
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "plateau":
        return spec.learning_rate * max(spec.plateau_factor**cuts, spec.final_fraction)
    low = spec.final_fraction
    return spec.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * over)))


@dataclass
class Patience:
    """What validations say of the progress: counts of them, never of seconds.

    Attributes:
        stale: Validations since the best one.
        waited: Validations since the best one or the last cut.
        cuts: Cuts of the learning rate so far.
    """

    stale: int = 0
    waited: int = 0
    cuts: int = 0

    def see(self, spec: OptimizerSpec, *, improved: bool) -> None:
        """Count a validation; with `schedule: plateau`, cut the learning rate where its patience is over."""
        self.stale, self.waited = (0, 0) if improved else (self.stale + 1, self.waited + 1)
        if spec.schedule == "plateau" and self.waited >= spec.plateau_patience:
            self.cuts, self.waited = self.cuts + 1, 0
