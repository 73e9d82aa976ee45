"""Parameters in flat arrays, one for each set of ranks that holds them: one reduction, one update for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.mesh import Mesh

Named = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Segment:
    """One parameter group's place in its bucket.

    Attributes:
        names: Parameter names, sorted: the order never depends on when a gradient became ready.
        shapes: Their shapes.
        start: First number of the group in the bucket's arrays.
        stop: One past its last.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: int
    stop: int


class Bucket:
    """Parameters that the same ranks hold whole; the model's tensors become views of the flat arrays.

    Attributes:
        members: The ranks.
        segments: Places of the parameter groups, by group name.
        weights: (n,).
        gradient: (n + tail,); the tail carries numbers that are summed along.
    """

    def __init__(self, members: tuple[int, ...], groups: Mapping[str, Named], like: Tensor, tail: int = 0) -> None:
        self.members = members
        self.segments: dict[str, Segment] = {}
        ordered = [(group, sorted(groups[group], key=lambda item: item[0])) for group in sorted(groups)]
        size = sum(p.numel() for _, named in ordered for _, p in named)
        self.weights = like.new_zeros(size)
        self.gradient = like.new_zeros(size + tail)
        start = 0
        for group, named in ordered:
            stop = start + sum(p.numel() for _, p in named)
            names, shapes = tuple(n for n, _ in named), tuple(tuple(p.shape) for _, p in named)
            self.segments[group] = Segment(names, shapes, start, stop)
            self._adopt([p for _, p in named], start)
            start = stop

    @property
    def size(self) -> int:
        """Return the number of parameters."""
        return self.weights.numel()

    @property
    def gradients(self) -> Tensor:
        """Return the gradient without the tail, (n,)."""
        return self.gradient[: self.size]

    @property
    def tail(self) -> Tensor:
        """Return the numbers that are summed along with the gradient."""
        return self.gradient[self.size :]

    def reduce(self, mesh: Mesh) -> float:
        """Sum the gradient over the ranks that hold it; return what this rank counts of its squared norm: one rank counts all."""
        mesh.sum_(self.gradient, self.members)
        return square(self.gradients) if self.members[0] == mesh.rank else 0.0

    def whole(self, flat: Tensor, group: str) -> Tensor:
        """Return a parameter group's numbers out of an array that is laid out like `weights`. Collective where it is sharded."""
        return flat[self.segments[group].start : self.segments[group].stop]

    def take(self, flat: Tensor, group: str, numbers: Tensor) -> None:
        """Copy a parameter group's numbers, all of them, into an array that is laid out like `weights`."""
        flat[self.segments[group].start : self.segments[group].stop] = numbers

    def publish(self) -> None:
        """Let the model's tensors have what `weights` holds: here they are views of it."""

    def _adopt(self, parameters: Iterable[nn.Parameter], start: int) -> None:
        for parameter in parameters:
            stop = start + parameter.numel()
            self.weights[start:stop] = parameter.detach().flatten()
            parameter.data = self.weights[start:stop].view(parameter.shape)
            parameter.grad = self.gradient[start:stop].view(parameter.shape)
            start = stop


class Buckets:
    """All trained parameters of this rank.

    Every rank holds the last bucket (the backbone, and whatever else all ranks share); its tail carries the
    sums of the step, so that a step of data-parallel training costs one reduction beside the counts'.

    Args:
        groups: Parameter groups to train; others must not require gradients.
        members_of: The ranks that hold a group.
        mesh: Sums over ranks.
        like: A tensor of the parameters' dtype and device.
        tail: Numbers to sum along.
        sharded: A further bucket, of which each rank holds a part.
    """

    def __init__(
        self,
        groups: Mapping[str, Named],
        members_of: Callable[[str], tuple[int, ...]],
        mesh: Mesh,
        like: Tensor,
        tail: int,
        sharded: Bucket | None = None,
    ) -> None:
        self._mesh = mesh
        smaller = sorted({members_of(group) for group in groups} - {mesh.world})  # these sets are disjoint
        self.own = [Bucket(members, {g: n for g, n in groups.items() if members_of(g) == members}, like) for members in smaller]
        self.own += [sharded] if sharded is not None else []
        shared = {g: n for g, n in groups.items() if members_of(g) == mesh.world}
        self.world = Bucket(mesh.world, shared, like, tail + 1)

    def __iter__(self) -> Iterator[Bucket]:
        return iter([*self.own, self.world])

    def zero(self) -> None:
        """Clear the gradients in place; the parameters keep their views."""
        for bucket in self:
            bucket.gradient.zero_()

    def reduce(self, sums: Tensor) -> tuple[Tensor, float]:
        """Sum gradients over the ranks that hold them, and `sums` over all.

        Args:
            sums: This rank's numbers, (tail,).

        Returns:
            The sums over all ranks, and the norm of the whole gradient: the same on every rank, in every layout.
        """
        squares = sum(bucket.reduce(self._mesh) for bucket in self.own)
        self.world.tail[:-1] = sums
        self.world.tail[-1] = squares
        self._mesh.sum_(self.world.gradient)
        norm = (float(self.world.tail[-1]) + square(self.world.gradients)) ** 0.5
        return self.world.tail[:-1].clone(), norm


def square(gradient: Tensor) -> float:
    """Return the squared norm, summed in float64: a square overflows FP32 long before the gradient does."""
    return float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
