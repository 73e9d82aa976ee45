"""Sums of tensors over sets of ranks: the torch.distributed part of parallel training."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from model.faults import PeerLost
from model.parallel import Ranks


class Mesh:
    """Groups of ranks that sum tensors.

    No rank sees another rank's process group object or a file of it: the rendezvous goes through MPI.

    Args:
        ranks: All ranks; every one of them makes the mesh.
        backend: torch.distributed backend.
        members: Sets of ranks that will sum; all ranks must give the same sets in the same order.
        address_suffix: What to add to rank 0's host name for its address on the fast network.
    """

    def __init__(self, ranks: Ranks, backend: str, members: Sequence[tuple[int, ...]] = (), address_suffix: str = "") -> None:
        self._ranks, self._suffix = ranks, address_suffix
        self._groups: dict[tuple[int, ...], dist.ProcessGroup | None] = {}
        self.bytes_reduced = 0
        if ranks.size > 1:
            self._start(backend, dict.fromkeys(members))

    @property
    def rank(self) -> int:
        """Return this rank."""
        return self._ranks.rank

    @property
    def world(self) -> tuple[int, ...]:
        """Return the set of all ranks."""
        return tuple(range(self._ranks.size))

    def sum_(self, tensor: Tensor, members: tuple[int, ...] | None = None) -> Tensor:
        """Sum a tensor in place over a set of ranks (default: all); every member gets the same bits.

        Raises:
            PeerLost: Another rank is gone.
        """
        if self._ranks.size == 1 or (members is not None and len(members) == 1):
            return tensor
        try:
            dist.all_reduce(tensor, group=None if members is None or members == self.world else self._groups[members])
        except RuntimeError as error:
            raise PeerLost("a rank ended in the middle of a reduction") from error
        self.bytes_reduced += tensor.numel() * tensor.element_size()
        return tensor

    def _start(self, backend: str, members: Iterable[tuple[int, ...]]) -> None:
        """Join the process group: on one machine by a private file and the loopback, otherwise by rank 0's address."""
        ranks, folder = self._ranks, None
        if ranks.is_one_machine:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            store, folder = _store_on_file(ranks)
        else:
            store = _store_on_network(ranks, self._suffix)
        try:
            dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size)
            smaller = [group for group in members if 1 < len(group) < ranks.size]
            self._groups = {group: dist.new_group(list(group)) for group in smaller}
            ranks.barrier()
        except RuntimeError as error:
            raise PeerLost("a rank ended while the ranks found each other") from error
        finally:
            if folder is not None and ranks.is_first:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the process group; a rank that is gone by then is no longer our concern."""
        if self._ranks.size > 1 and dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _store_on_file(ranks: Ranks) -> tuple[dist.Store, Path]:
    folder = Path(ranks.bcast(tempfile.mkdtemp(prefix="ranks-") if ranks.is_first else None))
    return dist.FileStore(str(folder / "store"), ranks.size), folder


def _store_on_network(ranks: Ranks, suffix: str) -> dist.Store:
    """Let all ranks find each other at rank 0."""
    host = f"{socket.gethostname().partition('.')[0]}{suffix}" if suffix else socket.getfqdn()
    store = served(host, ranks.size) if ranks.is_first else None
    host, port = ranks.bcast((host, store.port) if store else None)
    return store or dist.TCPStore(host, port, ranks.size, is_master=False)


def served(host: str, size: int) -> dist.TCPStore:
    """Serve a store at the address of this host's name, and on no other network; left to itself, torch listens on all.

    A name that leads to the loopback does not tell how others reach this host: then all it is.
    """
    family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    if ipaddress.ip_address(address[0]).is_loopback:
        return dist.TCPStore(host, 0, size, is_master=True, wait_for_workers=False)
    listener = socket.create_server((address[0], 0), family=family, backlog=min(size, socket.SOMAXCONN))
    port = listener.getsockname()[1]
    return dist.TCPStore(host, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
