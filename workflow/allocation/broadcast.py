"""Send files to all nodes over MPI, one rank a node: read once, written beside and renamed on each, hashed on the way.

`python -m mpi4py -m workflow.allocation.broadcast ORDER.json CALL_FOLDER` is what runs on each node, for launchers that have
no command for it. Nothing rests on it: each node checks by digest afterwards what it has, and copies what is missing
itself. A rank that cannot write therefore goes on taking part, for all others wait for it in each call of MPI, and tells
its fault at the end. It imports little, since it may be what brings the packages to the nodes.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from itertools import cycle
from pathlib import Path
from typing import Any

from model.outcome import CampaignError, read_json, write_json
from workflow.allocation.ground import make_own
from workflow.receipt import Output, is_right

CHUNK = 16 << 20
"""Bytes on their way at once: long enough for the network, short enough to be written while the next ones come."""
SENT = "sent.json"
"""How many files and bytes all nodes have so far, in the folder of the call."""
_ROOT = 0


@dataclass(frozen=True)
class SentFile:
    """One file and what it must be at its end.

    Attributes:
        source: Absolute path, read by one rank only.
        target: Node-local path; `{node}` stands for the node's name.
        output: Its size and digest.
    """

    source: str
    target: str
    output: Output


@dataclass(frozen=True)
class Sending:
    """What the ranks do together.

    Attributes:
        num_nodes: Ranks there must be, one on each node.
        node_variable: Environment variable with the node's name; empty: the host name.
        files: What to send, in this order.
    """

    num_nodes: int
    node_variable: str
    files: tuple[SentFile, ...]

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Path) -> Sending:
        """Read what `write` wrote."""
        fields = read_json(path) or {}
        files = (SentFile(**{**each, "output": Output(**each["output"])}) for each in fields["files"])
        return Sending(**{**fields, "files": tuple(files)})


def main(argv: list[str]) -> int:
    """Do one rank's part; 0 also where this node lacks a file, for a launcher may end all ranks when one fails."""
    from mpi4py import MPI

    sending, call = Sending.read(Path(argv[1])), Path(argv[2])
    node = os.environ.get(sending.node_variable, "") or socket.gethostname()
    rank = Rank(MPI.COMM_WORLD, MPI.MIN, node, is_virtual=bool(sending.node_variable))
    if rank.world.size != sending.num_nodes:
        _tell(call, node, f"{rank.world.size} ranks instead of {sending.num_nodes}: mpi4py was built for another MPI")
        return 1
    began = time.monotonic()
    files = size = 0
    for each in sending.files:
        if rank.send(each):
            files, size = files + 1, size + each.output.size
        if rank.world.rank == _ROOT:
            write_json(call / SENT, {"files": files, "bytes": size, "seconds": round(time.monotonic() - began, 3)})
    if rank.fault:
        _tell(call, node, rank.fault)
    return 0


class Rank:
    """One rank of the broadcast.

    Args:
        world: All ranks.
        least: The reduction to the least value.
        node: Name of the node.
        is_virtual: Whether nodes are parts of one machine, which share what does not name the node.

    Attributes:
        fault: The first thing that went wrong on this node, or nothing.
    """

    def __init__(self, world: Any, least: Any, node: str, *, is_virtual: bool) -> None:
        self.world, self._least, self._node, self._is_virtual = world, least, node, is_virtual
        self._buffers = cycle([memoryview(bytearray(CHUNK)) for _ in range(2)])
        self.fault = ""

    def send(self, file: SentFile) -> bool:
        """Do this rank's part for one file; say whether all nodes have it."""
        target = Path(file.target.replace("{node}", self._node))
        is_here = self._need_not_write(file) or is_right(target, file.output)
        if self._all(is_here):
            return True
        copy = Copy(target, file)
        with ThreadPoolExecutor(1) as pool:
            done: Future[None] = pool.submit(copy.skip if is_here else copy.begin)
            for chunk in self._chunks(file):
                done.result()  # the next chunk but one comes into the same buffer
                done = pool.submit(copy.take, chunk)
            done.result()
        copy.end()
        self.fault = self.fault or copy.fault
        return self._all(not copy.fault)

    def _need_not_write(self, file: SentFile) -> bool:
        return self._is_virtual and "{node}" not in file.target and self.world.rank != _ROOT

    def _all(self, good: bool) -> bool:
        """Say whether it is so on all nodes."""
        mine, least = array("i", [good]), array("i", [0])
        self.world.Allreduce(mine, least, op=self._least)
        return bool(least[0])

    def _chunks(self, file: SentFile) -> Iterator[memoryview]:
        """Give the file in chunks; nothing more where it cannot be read on."""
        count = array("q", [0])
        source = self._open(file) if self.world.rank == _ROOT else None
        for buffer in self._buffers:
            if source is not None:
                count[0] = self._read(source, buffer)
            self.world.Bcast(count, root=_ROOT)
            if not count[0]:
                break
            self.world.Bcast(buffer[: count[0]], root=_ROOT)
            yield buffer[: count[0]]
        if source is not None:
            source.close()

    def _open(self, file: SentFile) -> FileIO | None:
        try:
            return FileIO(file.source)
        except OSError as error:
            self.fault = self.fault or str(error)
            return None

    def _read(self, source: FileIO, buffer: memoryview) -> int:
        try:
            return source.readinto(buffer) or 0
        except OSError as error:
            self.fault = self.fault or str(error)
            return 0


class Copy:
    """What one node makes of the chunks: the file whole and right, or nothing, and why.

    Args:
        target: Where it goes.
        file: What it must be.

    Attributes:
        fault: Why it does not stand here, or nothing.
    """

    def __init__(self, target: Path, file: SentFile) -> None:
        self._target, self._wanted = target, file
        self._part = target.with_name(f".{target.name}.part")  # the name that a node's own copy begins with: never two of them
        self._hash, self.fault = hashlib.sha256(), ""
        self._file: FileIO | None = None

    def skip(self) -> None:
        """Let all chunks by, for the file stands here already."""

    def begin(self) -> None:
        """Open the file that the chunks are written to."""
        self._try(self._open)

    def take(self, chunk: memoryview) -> None:
        """Write one chunk; one that comes after a fault is let by."""
        if self._file is not None:
            self._try(lambda: self._write(chunk))

    def end(self) -> None:
        """Give the file its name if it is what it must be."""
        if self._file is not None:
            self._try(self._finish)

    def _open(self) -> None:
        make_own(self._target.parent)
        self._file = FileIO(self._part, "w")

    def _write(self, chunk: memoryview) -> None:
        assert self._file is not None
        self._hash.update(chunk)
        while chunk:
            chunk = chunk[self._file.write(chunk) :]

    def _finish(self) -> None:
        assert self._file is not None
        self._file.close()
        if self._hash.hexdigest() != self._wanted.output.sha256:
            raise OSError(f"what came of '{self._wanted.source}' differs from its receipt")
        self._part.replace(self._target)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, CampaignError) as error:
            self.fault = str(error)
            self._give_room()

    def _give_room(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
                self._part.unlink()
            self._file = None


def _tell(call: Path, node: str, fault: str) -> None:
    write_json(call / f"fault.{node}.json", {"fault": fault})


if __name__ == "__main__":
    sys.exit(main(sys.argv))
