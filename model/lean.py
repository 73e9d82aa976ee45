"""Import libraries without torch, which some load for their own type checks: seconds of CPU in every conversion."""

from __future__ import annotations

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
