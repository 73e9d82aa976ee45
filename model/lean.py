"""Import libraries at less cost: without torch, which some load for their own type checks, and without collecting garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NAME = "torch"


@contextmanager
def without_torch() -> Iterator[None]:
    """Let imports of torch fail within the block, as where it is not installed; where it is loaded already, nothing changes."""
    if _NAME in sys.modules:
        yield
        return
    sys.modules[_NAME] = None  # type: ignore[assignment]  # an entry of None makes an import fail
    try:
        yield
    finally:
        del sys.modules[_NAME]


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage within the block, and leave what was made in it out of later collections.

    Imports make hundreds of thousands of objects that stay: looking through them again and again is a quarter of the CPU time
    that torch takes to load, in every rank, and later collections would go through them too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
