"""Affine maps, activation and small networks: everything wide that a model multiplies by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from model.layers.activation import silu


class Dense(nn.Linear):
    """An affine map whose product may run in a lower precision than its input.

    Attributes:
        product_dtype: Precision of the product (`precision.apply` sets it); None: that of the input. The
            result always returns in the input's precision.
    """

    product_dtype: torch.dtype | None = None

    def reset_parameters(self) -> None:
        """Leave the weights to `initialize`, which knows the seed."""

    def initialize(self, generator: torch.Generator) -> None:
        """Draw Glorot-uniform weights; biases are zero."""
        bound = math.sqrt(6.0 / (self.in_features + self.out_features))
        draw_uniform(self.weight, bound, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        if self.product_dtype is None:
            return functional.linear(x, self.weight, self.bias)
        product: Tensor = _LowProduct.apply(x.flatten(0, -2), self.weight.t(), self.product_dtype)
        product = product.unflatten(0, x.shape[:-1])
        return product if self.bias is None else product + self.bias


class _LowProduct(Function):
    """A product of two matrices in a lower precision; whatever is added to it or to a gradient of it is added in the higher one.

    With casts that autograd sees, the parts of a gradient would be added up in the lower precision.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.dtype = dtype
        return torch.mm(left.to(dtype), right.to(dtype)).to(left.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left, right = ctx.saved_tensors
        first = _LowProduct.apply(grads[0], right.t(), ctx.dtype) if ctx.needs_input_grad[0] else None
        return first, _LowProduct.apply(left.t(), grads[0], ctx.dtype) if ctx.needs_input_grad[1] else None, None


class MLP(nn.Module):
    """Dense layers with SiLU between them.

    Args:
        widths: Width of the input, of each layer, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Dense(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, widths[0]) to (…, widths[-1])."""
        for layer in self.layers[:-1]:
            x = silu(layer(x))
        return self.layers[-1](x)


class Filter(nn.Module):
    """Linear maps of a radial basis to weights for each edge and feature.

    The product stays in the model's precision, in the orientation that is fast in all derivatives, and each part
    is a tensor of its own, because passes over interleaved ones take twice as long.

    Args:
        radial: Functions of the basis, the constant left out.
        width: Features of a part.
        parts: Number of parts.
    """

    def __init__(self, radial: int, width: int, parts: int = 1) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(radial + 1, parts * width))

    def initialize(self, generator: torch.Generator) -> None:
        """Draw Glorot-uniform weights; the last row, the bias, is zero."""
        draw_uniform(self.weight, math.sqrt(6.0 / (self.weight.shape[0] - 1 + self.width)), generator)
        with torch.no_grad():
            self.weight[-1] = 0.0

    def forward(self, basis: Tensor) -> list[Tensor]:
        """Map (radial + 1, num_edges) to `parts` times (num_edges, width)."""
        return [basis.t() @ self.weight[:, start : start + self.width] for start in range(0, self.weight.shape[1], self.width)]


def draw_uniform(weight: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill `weight` uniformly in ±bound, drawn in FP64 so that every precision starts from the same numbers."""
    numbers = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        weight.copy_(numbers.mul_(2 * bound).sub_(bound))


def draw_normal(weight: Tensor, scale: float, generator: torch.Generator) -> None:
    """Fill `weight` from a normal distribution of the given width, drawn in FP64."""
    numbers = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        weight.copy_(numbers.mul_(scale))
