"""Let an interruption from outside be heard in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def hearing(then: Callable[[], None]) -> Iterator[None]:
    """Call `then`, which may run between any two instructions, at each interruption meanwhile.

    Outside the main thread Python allows no handlers; what the process was told to ignore stays ignored (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: then()) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
