"""Precision policies: what a model computes in FP64, FP32 or BF16."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from model.layers.dense import Dense
from model.specs import Precision


@dataclass(frozen=True)
class Policy:
    """Where which arithmetic runs.

    Attributes:
        dtype: Weights, geometry, radial functions, sums over neighbours, pooling, the last layer of every head, forces, loss.
        products: Products of all other `Dense` layers that are wide; their results return to `dtype`.
    """

    dtype: torch.dtype
    products: torch.dtype


_WIDE = 8
"""Inputs and outputs that a product has at least where it is lowered. Narrower ones cost nothing and carry much: an energy, a
weight of an edge, an atomic number up to 94 as one feature."""

POLICIES: dict[Precision, Policy] = {
    "fp64": Policy(torch.float64, torch.float64),
    "fp32": Policy(torch.float32, torch.float32),
    "bf16": Policy(torch.float32, torch.bfloat16),
}


def apply(model: nn.Module, precision: Precision) -> nn.Module:
    """Set a model to a precision, in place; weights that are already there are converted.

    Args:
        model: Usually a `MultiTaskModel`.
        precision: Name of a policy; graphs must come in its `dtype`.

    Returns:
        The model.
    """
    policy = POLICIES[precision]
    lowered = policy.products if policy.products != policy.dtype else None
    for module in model.modules():
        if isinstance(module, Dense):
            module.product_dtype = lowered if min(module.in_features, module.out_features) >= _WIDE else None
    return model.to(policy.dtype)
