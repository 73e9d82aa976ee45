"""What glibc does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's mallopt
_NEVER = 2**31 - 4096


def keep_freed_memory() -> None:
    """Let this process keep what it frees: no block of its own for a large tensor, and nothing given back.

    Else every large tensor of a step comes as new pages, which the kernel clears one by one: half the CPU time of plain
    code of such a model. The memory stays at its peak, which a training reaches in every step.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_MAX, 0)  # a threshold would not do: glibc takes none above 32 MiB
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
