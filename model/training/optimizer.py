"""AdamW and the averaged weights, on flat arrays; with torch.optim, importing its compiler costs a short trial seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from model.specs import OptimizerSpec
from model.training.buckets import Bucket, Buckets

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_NUMBERS_AT_ONCE = 1 << 16
"""Weights that a CPU updates at once: their moments stay in its cache over the nine passes, instead of being read nine times."""


@dataclass
class Moments:
    """What the optimizer keeps of one bucket.

    Attributes:
        first: Decayed mean of the gradient, (n,).
        second: Decayed mean of its square, (n,).
        average: Decayed mean of the weights, (n,), or None.
    """

    first: Tensor
    second: Tensor
    average: Tensor | None


class Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019) with clipping by the global norm and averaged weights.

    Args:
        spec: Options.
        buckets: Parameters with their gradients.
    """

    def __init__(self, spec: OptimizerSpec, buckets: Buckets) -> None:
        self._spec = spec
        self.buckets = list(buckets)
        self.moments = [self._start(bucket) for bucket in self.buckets]

    def step(self, number: int, learning_rate: float, norm: float) -> None:
        """Update the weights.

        Args:
            number: Updates made before this one.
            learning_rate: Of this step.
            norm: Norm of the whole gradient, the same on all ranks.
        """
        clip = self._spec.clip_norm
        scale = clip / norm if clip is not None and norm > clip else 1.0
        with torch.no_grad():
            for bucket, moments in zip(self.buckets, self.moments, strict=True):
                self._update(bucket, moments, number + 1, learning_rate, scale)
                bucket.publish()
                if moments.average is not None:
                    moments.average.lerp_(bucket.weights, 1.0 - self._decay(number + 1))

    def num_bytes(self) -> int:
        """Return what this rank holds of the trained parameters: weights, gradients, moments, averages."""
        held = [[b.weights, b.gradient, m.first, m.second, m.average] for b, m in zip(self.buckets, self.moments, strict=True)]
        return sum(each.numel() * each.element_size() for bucket in held for each in bucket if each is not None)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place of the trained ones for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _start(self, bucket: Bucket) -> Moments:
        average = bucket.weights.clone() if self._spec.ema is not None else None
        return Moments(torch.zeros_like(bucket.weights), torch.zeros_like(bucket.weights), average)

    def _update(self, bucket: Bucket, moments: Moments, number: int, learning_rate: float, scale: float) -> None:
        parts = bucket.size if bucket.weights.device.type != "cpu" else _NUMBERS_AT_ONCE
        arrays = (bucket.gradients, moments.first, moments.second, bucket.weights)
        for gradient, first, second, weights in zip(*(each.split(parts) for each in arrays), strict=True):
            gradient.mul_(scale)
            first.lerp_(gradient, 1.0 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
            weights.mul_(1.0 - learning_rate * self._spec.weight_decay)
            spread = (second / (1.0 - BETA2**number)).sqrt_().add_(EPSILON)
            weights.addcdiv_(first, spread, value=-learning_rate / (1.0 - BETA1**number))

    def _decay(self, number: int) -> float:
        """Return the averages' decay, ramped up: early on, the average must forget the random first weights."""
        return min(self._spec.ema or 0.0, (1.0 + number) / (10.0 + number))

    def _swap(self) -> None:
        for bucket, moments in zip(self.buckets, self.moments, strict=True):
            if moments.average is not None:
                held = bucket.weights.clone()
                bucket.weights.copy_(moments.average)
                moments.average.copy_(held)
                bucket.publish()
