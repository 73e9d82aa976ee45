"""Small predictors with random weights, for tests of inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model import checkpoint
from model.checkpoint import GroupState, Meta
from model.data.references import References
from model.inference.predictor import Predictor
from model.multitask import MultiTaskModel, Statistics
from model.precision import apply
from model.specs import ModelSpec, Splits

KNOWN = {"organic": {1: -13.0, 6: -1030.0, 8: -2040.0}, "water": {1: -14.0, 8: -2041.0}, "metal": {29: -3.0}}
"""Reference energies of the branches, eV by atomic number: three levels of theory that know different elements."""


def predictor(seed: int = 0, **spec: object) -> Predictor:
    """Return an FP64 model of three branches with random weights."""
    architecture = ModelSpec(backbone={"name": "painn", "layers": 2, "hidden": 8}, cutoff=4.0, head_hidden=8, **spec)
    statistics = Statistics(8.0, (1.0, 2.0, 0.5))
    model = MultiTaskModel(architecture, tuple(KNOWN), statistics, seed=seed)
    apply(model, "fp64")
    references = {n: References(e, 0.1, 1.0, 10, len(e), Splits()) for n, e in KNOWN.items()}
    files = {"backbone": {"file": "x", "sha256": f"weights of seed {seed}", "bytes": 1}}
    meta = Meta(architecture, tuple(KNOWN), statistics, "fp64", references, Splits(), {}, files=files)
    return Predictor(model.eval(), meta, "fp64", torch.device("cpu"))


def saved(folder: Path, seed: int = 0, **spec: object) -> Path:
    """Write the predictor's model as a checkpoint; returns its folder."""
    made = predictor(seed, **spec)
    groups = {}
    for group, named in made.model.parameter_groups().items():
        named = sorted(named)
        flat = torch.cat([value.detach().flatten() for _, value in named])
        groups[group] = GroupState(tuple(n for n, _ in named), tuple(tuple(v.shape) for _, v in named), flat)
    checkpoint.commit(folder, made.meta, checkpoint.write_groups(folder, groups, None), None)
    return folder


def weights(count: int, seed: int = 0) -> np.ndarray:
    """Return random weights of three branches that add up to one, (count, 3)."""
    return np.random.default_rng(seed).dirichlet(np.ones(3), count)
