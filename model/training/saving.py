"""Write checkpoints while training goes on: a copy of the tensors is taken, a thread of each rank writes it.

Threads never talk to other ranks: some MPI libraries allow one thread only. Each rank's thread writes the groups that the
rank has to write; when all ranks agree that theirs are written (their vote travels with the counts of a step), the main
threads gather what was written, and rank 0's thread renames `meta.json` into place. Until then the old checkpoint stands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import checkpoint
from model.checkpoint import GroupState, Meta
from model.parallel import Ranks
from model.specs import Owner

Files = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Writing:
    folders: tuple[Path, ...]
    meta: Meta
    files: Future[Files]


class Saver:
    """Write one checkpoint at a time in the background; all ranks call its collective methods together.

    Attributes:
        seconds: Time that this rank's thread has spent on writing.

    Args:
        ranks: All ranks.
        owner: Asked before each rename; a rank without an owner ends instead.
    """

    def __init__(self, ranks: Ranks, owner: Owner | None) -> None:
        self._ranks, self._owner = ranks, owner
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: _Writing | None = None
        self._committing: Future[None] | None = None
        self.seconds = 0.0

    def begin(self, folders: Sequence[Path], groups: Mapping[str, GroupState], meta: Meta) -> None:
        """Copy the groups and start writing them; waits for the checkpoint before. Collective.

        Args:
            folders: Where the checkpoint goes, one after the other; what stands there stays valid until its replacement is whole.
            groups: The groups that this rank writes.
            meta: Everything else; only rank 0's counts.
        """
        self.finish()
        copies = {group: state.copied() for group, state in groups.items()}
        self._writing = _Writing(tuple(folders), meta, self._thread.submit(self._write, folders[0], copies))

    def is_pending(self) -> bool:
        """Say whether this rank's thread is still writing groups.

        Raises:
            OSError: The thread failed, in this checkpoint or in the rename of the one before.
        """
        if self._committing is not None and self._committing.done():
            self._committing.result()
        if self._writing is None or not self._writing.files.done():
            return self._writing is not None
        self._writing.files.result()
        return False

    def settle(self) -> None:
        """Let rank 0 rename what all ranks have written; does nothing where nothing is being written. Collective.

        Raises:
            OSError: The thread failed.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        gathered = self._ranks.gather(writing.files.result())
        if gathered is not None:
            files = {group: entry for part in gathered for group, entry in part.items()}
            self._committing = self._thread.submit(self._commit, writing, files)

    def finish(self) -> None:
        """Wait until the last checkpoint stands. Collective.

        Raises:
            OSError: The thread failed.
        """
        self.settle()
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.result()
        self._ranks.barrier()

    def close(self) -> None:
        """Wait for the last checkpoint and end the thread. Collective."""
        self.finish()
        self._thread.shutdown()

    def _write(self, folder: Path, groups: Mapping[str, GroupState]) -> Files:
        began = time.monotonic()
        files = checkpoint.write_groups(folder, groups, self._owner)
        self.seconds += time.monotonic() - began
        return files

    def _commit(self, writing: _Writing, files: Files) -> None:
        began = time.monotonic()
        first, *others = writing.folders
        checkpoint.commit(first, writing.meta, files, self._owner)
        for folder in others:
            checkpoint.duplicate(first, folder, self._owner)
        self.seconds += time.monotonic() - began
