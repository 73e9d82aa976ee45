"""Open ADIOS2 BP5 folders for writing and reading, and leave no profile of the run behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.lean import without_torch

with without_torch():
    import adios2


# ADIOS2 2.12 ignores its own parameter `Profile` in BP5: it writes timings beside the data, where equal conversions
# would differ, and for every folder read into /tmp, where nothing removes them. No reader needs them.
_BESIDE = "profiling.json"
_OF_READS = "/tmp/{name}_{process:x}_profiling.json"  # noqa: S108 the path is ADIOS2's


@contextmanager
def writing(folder: Path) -> Iterator[adios2.Stream]:
    """Open a new BP5 folder, to be closed when the block ends."""
    io = adios2.Adios().declare_io("bp5")
    io.set_engine("BP5")
    with adios2.Stream(io, str(folder), "w") as stream:
        yield stream
    (folder / _BESIDE).unlink(missing_ok=True)


@contextmanager
def reading(folder: Path, *, stepwise: bool = False) -> Iterator[adios2.Stream]:
    """Open a BP5 folder, at random or step by step, to be closed when the block ends."""
    try:
        with adios2.Stream(str(folder), "r" if stepwise else "rra") as stream:
            yield stream
    finally:
        Path(_OF_READS.format(name=folder.name, process=os.getpid())).unlink(missing_ok=True)
