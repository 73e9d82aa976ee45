"""Read other nodes' memory, one-sided, through MPI windows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.faults import PeerLost
from model.outcome import CampaignError

_PAUSE_S, _LOOKS = 0.001, 32
"""How often to look for other ranks' requests: MPICH answers one a look, and a look takes 0.4 µs, so this is 2 % of a core."""


class Exposed:
    """Arrays that every rank of a communicator lets the others read; all of them make and close it.

    Args:
        communicator: mpi4py's.
        arrays: This rank's; the same number and types on all ranks, any number of rows.
    """

    def __init__(self, communicator: Any, arrays: Sequence[NDArray[Any]]) -> None:
        from mpi4py import MPI  # optional: ranks of one node need no windows

        self._byte, self._error = MPI.BYTE, MPI.Exception
        self._windows = [MPI.Win.Create(_bytes(array), 1, comm=communicator) for array in arrays]
        for window in self._windows:
            window.Set_errhandler(MPI.ERRORS_RETURN)
            window.Lock_all(MPI.MODE_NOCHECK)

    def read(self, array: int, owner: int, first: int, into: NDArray[Any]) -> None:
        """Begin to read rows of an owner's array, from `first` on; `finish` waits for them.

        Raises:
            PeerLost: MPI says that the owner cannot be read.
        """
        if not into.size:
            return
        row = into.nbytes // len(into)
        try:
            self._windows[array].Get([_bytes(into), self._byte], owner, [first * row, into.nbytes, self._byte])
        except self._error as error:
            raise PeerLost(f"rank {owner} of a branch could not be read") from error

    def finish(self) -> None:
        """Wait for what was begun.

        Raises:
            PeerLost: MPI says that an owner cannot be read.
        """
        try:
            for window in self._windows:
                window.Flush_local_all()
        except self._error as error:
            raise PeerLost("another rank's part of a branch could not be read") from error

    def close(self) -> None:
        """End the windows, when all ranks do."""
        for window in self._windows:
            window.Unlock_all()
            window.Free()


class Serving:
    """A thread that lets MPI answer other ranks, whatever this rank's program does.

    MPI promises that a one-sided read ends without a call of its target only where the network does the reading. Elsewhere
    (MPICH between processes of one machine, or over TCP) the target's library has to run, and ours may sit for long in a
    reduction of gloo or NCCL, in a kernel, or in the file system: none of them calls MPI. So every rank has a thread that
    calls it every millisecond, and no read waits for what another rank's program does. Torch and numpy give Python's lock
    back while they work.

    Args:
        communicator: mpi4py's; all its ranks make and stop theirs.

    Raises:
        CampaignError: This MPI does not let threads call it.
    """

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI

        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            remedy = "Use an MPI built with MPI_THREAD_MULTIPLE, or a `width` of the ranks of one node."
            raise CampaignError("this MPI lets no threads call it: reading from other nodes could wait for ever", "MPI", remedy)
        self._communicator = communicator.Dup()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mpi-serving", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            for _ in range(_LOOKS):
                self._communicator.Iprobe()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()
        self._communicator.Free()


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8] | None:
    return array.view(np.uint8).reshape(-1) if array.size else None
