"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math

from model.config import OptimizerSpec


def learning_rate(spec: OptimizerSpec, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or half a cosine down to `final_fraction`.

    Args:
        spec: Peak, warm-up and decay.
        step: Global step, from 0.
        total_steps: Steps of the whole training.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    span = max(total_steps - 1 - spec.warmup_steps, 1)
    place = min((step - spec.warmup_steps) / span, 1.0)
    low = spec.final_fraction
    return spec.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * place)))
