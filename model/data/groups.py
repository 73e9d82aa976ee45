"""Ranks that hold one copy of a branch together, and the memory that those of one node share."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from model.data.remote import Serving
from model.outcome import CampaignError
from model.parallel import Ranks

T = TypeVar("T")


class SharedRows:
    """An array that the ranks of a node share.

    Args:
        rows: The mapped array; to be read, and to be written where little is.
        file: Descriptor of its file.
    """

    def __init__(self, rows: NDArray[Any], file: int) -> None:
        self.rows, self._file = rows, file

    def write(self, first: int, rows: NDArray[Any]) -> None:
        """Write rows from `first` on, through the file: half the cost of a page fault for each new page of the map.

        Raises:
            OSError: The node has no memory left.
        """
        data = np.ascontiguousarray(rows, self.rows.dtype).reshape(-1).view(np.uint8).data
        place, done = first * self.rows[:1].nbytes, 0
        while done < len(data):  # one call writes 2 GiB at most
            done += os.pwrite(self._file, data[done:], place + done)

    def sealed(self) -> NDArray[Any]:
        """Return the array; nothing more is written."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        return self.rows

    def __del__(self) -> None:
        self.sealed()


@dataclass(frozen=True)
class Group:
    """One replica's ranks, as one of them sees it; by default a rank alone.

    Attributes:
        nodes: The group's ranks, counted from 0 within it, on each of its nodes, in order.
        rank: This rank within the group.
        communicator: mpi4py's communicator of the group; None for a rank alone.
        node: That of the ranks on this node; None for a rank alone on it.
        leaders: That of the first ranks of all nodes; None elsewhere, and where there is one node.
        serving: What answers other nodes; None where there is one node.
    """

    nodes: tuple[tuple[int, ...], ...] = ((0,),)
    rank: int = 0
    communicator: Any = field(default=None, repr=False)
    node: Any = field(default=None, repr=False)
    leaders: Any = field(default=None, repr=False)
    serving: Serving | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Return the number of ranks."""
        return sum(map(len, self.nodes))

    @property
    def neighbors(self) -> tuple[int, ...]:
        """Return the ranks on this node, this one among them."""
        return next(ranks for ranks in self.nodes if self.rank in ranks)

    def allgather(self, value: Any) -> list[Any]:
        """Return all ranks' values, in order, on every rank."""
        return [value] if self.communicator is None else list(self.communicator.allgather(value))

    def combine(self, value: T, add: Callable[[T, T], T]) -> T:
        """Return the sum of all ranks' values, in their order, on every rank; no rank ever holds all of them."""
        return value if self.communicator is None else cast(T, self.communicator.allreduce(value, op=add))

    def meet(self) -> None:
        """Wait for the ranks of this node."""
        if self.node is not None:
            self.node.Barrier()

    def shared(self, dtype: np.dtype[Any] | type, shape: tuple[int, ...]) -> SharedRows:
        """Return zeros that all ranks of this node read and write; each of them gives the same arguments.

        The memory is an anonymous file (`memfd_create`) of the first rank, which the others open through /proc. It has no
        name, so nothing stays behind whatever ends the ranks; it takes no page before a row is written, so that more may be
        reserved than is used; and it does not count against the size of /dev/shm, whose excess ends a process without a
        word. `MPI_Win_allocate_shared` has the latter fault, and needs the final size at once.

        Raises:
            CampaignError: The node refuses so much memory, or its ranks cannot see each other's files.
        """
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        first = self.node is None or self.node.rank == 0
        made, fault = _attempt(lambda: _new_file(size)) if first else (None, "")
        file: Any = made
        mapped: Any = None
        if self.node is not None:
            place, fault = self.node.bcast((f"/proc/{os.getpid()}/fd/{made}", fault))
            if not first and not fault:
                file, fault = _attempt(lambda: os.open(place, os.O_RDWR))
        if not fault:
            mapped, fault = _attempt(lambda: mmap.mmap(file, size))
        faults = [each for each in ([fault] if self.node is None else self.node.allgather(fault)) if each]
        if faults:
            raise _refused(size, faults[0])
        return SharedRows(np.frombuffer(mapped, dtype, int(np.prod(shape))).reshape(shape), file)

    def exchange(self, array: NDArray[Any], bounds: NDArray[np.int64]) -> None:
        """Complete a `shared` array, of which each rank has written its rows, with those of other nodes.

        Args:
            array: One-dimensional.
            bounds: First row of each rank, (size + 1,).
        """
        self.meet()
        if self.leaders is not None:
            cuts = np.array([bounds[ranks[0]] for ranks in self.nodes] + [bounds[-1]])
            self.leaders.Allgatherv(_in_place(), [array, np.diff(cuts), cuts[:-1], _mpi_type(array)])
        self.meet()

    def close(self) -> None:
        """Give the communicators back; all ranks of the group do."""
        if self.serving is not None:
            self.serving.stop()
        for communicator in (self.leaders, self.node, self.communicator):
            if communicator is not None:
                communicator.Free()


def join(ranks: Ranks, chosen: Sequence[int]) -> Group:
    """Return the group of some ranks, in the order given; all of them call, others need not."""
    if len(chosen) == 1 or ranks.communicator is None:
        return Group()
    whole = ranks.communicator.Get_group()
    part = whole.Incl(list(chosen))
    communicator = ranks.communicator.Create_group(part)
    nodes = by_node([ranks.hosts[rank] for rank in chosen])
    place = next(k for k, members in enumerate(nodes) if communicator.rank in members)
    node = communicator.Split(place, communicator.rank)
    leaders = communicator.Split(int(node.rank > 0), communicator.rank)
    if len(nodes) == 1 or node.rank > 0:
        leaders.Free()
        leaders = None
    return Group(nodes, communicator.rank, communicator, node, leaders, Serving(communicator) if len(nodes) > 1 else None)


def by_node(hosts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the places of equal names that stand in a row."""
    return tuple(tuple(place for place, _ in run) for _, run in groupby(enumerate(hosts), key=lambda each: each[1]))


def replicas(members: Sequence[int], hosts: Sequence[str], width: int | None) -> list[tuple[int, ...]]:
    """Divide the ranks of a branch into groups that hold one copy each, laid along the nodes.

    As many groups are made as `width` goes into the members, at least one; their sizes differ by at most one.

    Args:
        members: Ranks that hold the branch.
        hosts: Node of each rank of the world.
        width: Ranks for one copy; None: all of them.
    """
    order = {host: place for place, host in reversed(list(enumerate(hosts)))}
    along = sorted(members, key=lambda rank: (order[hosts[rank]], rank))
    count = max(1, len(along) // width) if width else 1
    cuts = [len(along) * k // count for k in range(count + 1)]
    return [tuple(along[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]


def _new_file(size: int) -> int:
    file = os.memfd_create("window")
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return file


def _attempt(action: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return action(), ""
    except OSError as error:
        return None, str(error)


def _refused(size: int, why: str) -> CampaignError:
    remedy = "Use more nodes, so that each holds less, or raise the limits on a process's memory."
    return CampaignError(f"{size / 1e9:.3g} GB of memory that ranks share cannot be had ({why})", "the node", remedy)


def _in_place() -> Any:
    from mpi4py import MPI  # optional: a rank alone needs no MPI

    return MPI.IN_PLACE


def _mpi_type(array: NDArray[Any]) -> Any:
    from mpi4py import MPI

    return {"u4": MPI.UINT32_T, "u8": MPI.UINT64_T}[array.dtype.str[1:]]
