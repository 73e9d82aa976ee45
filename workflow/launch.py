"""What a Parsl app on one of our executors returns: a frozen description of something to start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARK = "__campaign_launch__"


@dataclass(frozen=True)
class Launch:
    """Base of what an executor starts; each executor has its own subclass.

    Attributes:
        name: Name for people and for the logs.
    """

    name: str


def launches(function: Callable[..., Launch]) -> Callable[..., Launch]:
    """Mark a function as one whose body is pure and returns a `Launch`.

    Our executors evaluate a marked function in `submit` and refuse every other one before its body
    can run: an ordinary `python_app` or a `bash_app` would do its work on the login node.
    """
    setattr(function, MARK, True)
    return function


def is_launch(function: Callable[..., Any]) -> bool:
    """Say whether `launches` has marked this function."""
    return getattr(function, MARK, False) is True
