"""Fill a model with its first weights, a function of seed and parameter name alone."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def initialize(model: nn.Module, seed: int, prefix: str = "") -> None:
    """Draw the weights of every module that has `initialize`, each from a generator seeded by its name.

    So a branch's head starts from the same numbers whichever other branches a rank holds, and in every precision.

    Args:
        model: A model, or a part of one.
        seed: Seed of the weights.
        prefix: Name of the part within its model, with a dot at its end.
    """
    for name, module in model.named_modules():
        draw = getattr(module, "initialize", None)
        if draw is not None:
            digest = hashlib.sha256(f"{seed}/{prefix}{name}".encode()).digest()
            draw(torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1))
