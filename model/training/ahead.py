"""Make what comes next on a thread of its own, while the caller works on what it has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Items of epochs, by number, at most two of them in memory: the one that was asked for, and the next.

    Args:
        make: Makes an item from epoch and number, the same whenever it is asked.
        has: Whether an epoch has an item of that number; none of the next epoch is made ahead, since a validation comes between.
    """

    def __init__(self, make: Callable[[int, int], T], has: Callable[[int, int], bool]) -> None:
        self._make, self._has = make, has
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._place = (-1, -1)
        self._item: T | None = None
        self._next: Future[T] | None = None

    def get(self, epoch: int, number: int) -> T:
        """Return an item, and begin the one after it; raises what making it raised."""
        if self._item is None or self._place != (epoch, number):
            follows = self._place == (epoch, number - 1)
            item = self._next.result() if follows and self._next is not None else self._make(epoch, number)
            self._place, self._item, self._next = (epoch, number), item, None
            if self._has(epoch, number + 1):
                self._next = self._thread.submit(self._make, epoch, number + 1)
        return self._item

    def close(self) -> None:
        """End the thread; what it is making is let go."""
        self._thread.shutdown(cancel_futures=True)
        self._item = self._next = None
