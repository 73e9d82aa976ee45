"""The backbone divided over all ranks (FSDP2): each keeps a part of every parameter, its gradient and its moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from model.mesh import Mesh
from model.training.buckets import Bucket, Segment, square


@dataclass(frozen=True)
class _Part:
    """One parameter's rows on this rank.

    Attributes:
        parameter: The sharded parameter.
        own: Their place in this rank's arrays.
        whole: Their place among all ranks' numbers.
    """

    parameter: nn.Parameter
    own: slice
    whole: slice

    def local(self, tensor: Tensor) -> Tensor:
        """Return this rank's rows of a sharded tensor, flat, as a view."""
        if not isinstance(tensor, DTensor):
            raise TypeError(f"not sharded: {type(tensor).__name__}")
        return tensor.to_local().view(-1)


class Shards(Bucket):
    """A module's parameters, of which each rank holds some rows.

    The module is gathered as a whole at the start of a step, and its gradient is summed and divided at the end of the last
    backward pass. The gradient that makes forces runs backward through the module, too: there it must neither be
    divided again nor reduce anything, which `held` sees to.

    Args:
        module: What to divide, the same on all ranks.
        group: Name of its parameter group.
        mesh: All ranks.
        device: Where the module is.
    """

    def __init__(self, module: nn.Module, group: str, mesh: Mesh, device: torch.device) -> None:
        if device.type != "cpu":
            torch.accelerator.set_device_index(device)
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        sharded = fully_shard(module, mesh=init_device_mesh(device.type, (len(mesh.world),)), reshard_after_forward=False)
        sharded.set_gradient_divide_factor(1.0)  # gradients are summed: the loss counts from the labels of all ranks
        sharded.set_force_sum_reduction_for_comms(True)
        self._module: FSDPModule = sharded
        self._mesh, self.members = mesh, mesh.world
        names = sorted(shapes)
        self.segments = {group: Segment(tuple(f"{group}.{n}" for n in names), tuple(shapes[n] for n in names), 0, 0)}
        self._parts = list(_parts_of(dict(module.named_parameters()), names, mesh))
        self._whole_size = sum(torch.Size(shape).numel() for shape in shapes.values())
        like = self._parts[0].local(self._parts[0].parameter)
        self.weights = like.new_zeros(self._parts[-1].own.stop)
        self.gradient = torch.zeros_like(self.weights)
        for part in self._parts:
            self.weights[part.own] = part.local(part.parameter).detach()

    def reduce(self, mesh: Mesh) -> float:
        """Take the rows that the backward pass left; return the squared norm of this rank's part."""
        for part in self._parts:
            gradient, part.parameter.grad = part.parameter.grad, None
            if gradient is not None:
                self.gradient[part.own] = part.local(gradient)
        mesh.bytes_reduced += self._whole_size * self.weights.element_size()
        return square(self.gradients)

    def whole(self, flat: Tensor, group: str) -> Tensor:  # noqa: ARG002 there is one
        """Return all ranks' numbers, in the order of the names, out of an array laid out like `weights`. Collective."""
        numbers = flat.new_zeros(self._whole_size)
        for part in self._parts:
            numbers[part.whole] = flat[part.own]
        return self._mesh.sum_(numbers)

    def take(self, flat: Tensor, group: str, numbers: Tensor) -> None:  # noqa: ARG002
        """Copy this rank's rows of a group's numbers."""
        for part in self._parts:
            flat[part.own] = numbers[part.whole].to(flat.device)

    def publish(self) -> None:
        """Let the module's rows be those of `weights`."""
        with torch.no_grad():
            for part in self._parts:
                part.local(part.parameter).copy_(self.weights[part.own])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the module gathered, and gradients to this rank, in what runs backward through it inside."""
        self._module.set_reshard_after_backward(False)
        self._module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._module.set_reshard_after_backward(True)
            self._module.set_requires_gradient_sync(True)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Gather the module for a while, in which ranks use it as often as each one likes. Collective."""
        self._module.unshard()
        try:
            with self.held():
                yield
        finally:
            self._module.reshard()


def _parts_of(parameters: dict[str, nn.Parameter], names: list[str], mesh: Mesh) -> Iterator[_Part]:
    """Yield this rank's rows: FSDP2 gives each rank ⌈rows/ranks⌉ of them, the last ones fewer or none."""
    own = whole = 0
    for name in names:
        parameter = parameters[name]
        width = parameter.shape[1:].numel()
        rows = -(-parameter.shape[0] // len(mesh.world))
        first, last = (min(k * rows, parameter.shape[0]) * width for k in (mesh.rank, mesh.rank + 1))
        yield _Part(parameter, slice(own, own + last - first), slice(whole + first, whole + last))
        own, whole = own + last - first, whole + parameter.shape.numel()
