"""The ranks of one launcher call: who we are, and the few collectives on Python objects; imports no torch."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from model.outcome import CampaignError

_LAUNCHED = ("PMI_", "PMIX_")
"""Prefixes of the process-management interface's variables, which every MPI launcher sets for its ranks."""


@dataclass(frozen=True)
class Ranks:
    """One rank's view of all ranks.

    Attributes:
        rank: This rank.
        size: Number of ranks.
        hosts: Node name of each rank, in rank order (virtual nodes have names of their own).
        machines: Host name of each rank, in rank order: what the network knows.
        communicator: mpi4py's COMM_WORLD, or None in a world of one.
    """

    rank: int = 0
    size: int = 1
    hosts: tuple[str, ...] = ("localhost",)
    machines: tuple[str, ...] = ("localhost",)
    communicator: Any = field(default=None, repr=False)

    @property
    def is_first(self) -> bool:
        """Return whether this is rank 0, which writes what is written once."""
        return self.rank == 0

    @property
    def local_rank(self) -> int:
        """Return this rank's place among the ranks of its node."""
        return self.hosts[: self.rank].count(self.hosts[self.rank])

    @property
    def is_one_machine(self) -> bool:
        """Return whether all ranks run on the same host."""
        return len(set(self.machines)) == 1

    def on_nodes(self, node_variable: str) -> Ranks:
        """Return these ranks with node names out of an environment variable; empty: the host names."""
        node = os.environ.get(node_variable, "") or self.machines[self.rank]
        return replace(self, hosts=tuple(self.allgather(node)))

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.communicator is not None:
            self.communicator.Barrier()

    def bcast(self, value: Any = None, root: int = 0) -> Any:
        """Return the root's value on every rank."""
        return value if self.communicator is None else self.communicator.bcast(value, root=root)

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Return all ranks' values, in rank order, on the root; None elsewhere."""
        if self.communicator is None:
            return [value]
        gathered: list[Any] | None = self.communicator.gather(value, root=root)
        return gathered

    def allgather(self, value: Any) -> list[Any]:
        """Return all ranks' values, in rank order, on every rank."""
        if self.communicator is None:
            return [value]
        gathered: list[Any] = self.communicator.allgather(value)
        return gathered

    def share_of(self, count: int) -> range:
        """Return this rank's contiguous part of `count` things; parts differ by at most one."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def abort(self, code: int = 1) -> None:
        """End all ranks now with a non-zero exit code: one rank alone leaving would leave the others waiting."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.communicator is not None:
            self.communicator.Abort(code)
        os._exit(code)


def discover() -> Ranks:
    """Find the ranks of this launcher call; a world of one where nothing launched us.

    Must run before torch is imported: some MPI libraries refuse to start after it has loaded its own runtime.

    Raises:
        CampaignError: A launcher started us, and mpi4py is missing: each rank would take itself for the only one.
    """
    machine = socket.gethostname()
    communicator = _communicator()
    if communicator is None:
        return Ranks(hosts=(machine,), machines=(machine,))
    machines = tuple(communicator.allgather(machine))
    return Ranks(communicator.rank, communicator.size, machines, machines, communicator)


def _communicator() -> Any:
    if not any(name.startswith(_LAUNCHED) for name in os.environ):
        return None
    try:
        from mpi4py import MPI  # optional: a world of one needs no MPI
    except ImportError as error:
        if os.environ.get("PMI_SIZE") == "1":
            return None
        remedy = "Install mpi4py, built for this machine's MPI, or start one process without a launcher."
        raise CampaignError(f"ranks cannot find each other ({error})", "mpi4py", remedy) from error
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None
