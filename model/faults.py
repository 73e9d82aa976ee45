"""Exceptions that end a model command, and the cause class of each."""

from __future__ import annotations

import errno
import sys

from model.outcome import CampaignError, Cause, is_of_storage


class Diverged(Exception):  # noqa: N818 named after the cause class
    """Training met a loss or gradient that is not finite; all ranks raise this together."""


class OutOfDeviceMemory(Exception):  # noqa: N818
    """The task needs more memory than its device has."""


class PeerLost(Exception):  # noqa: N818
    """A collective failed because another rank is gone: the fault is that rank's."""


_ALLOCATION_FAILED = ("DefaultCPUAllocator", "not enough memory", "out of memory", "bad_alloc")
"""Words of torch's allocation errors: on a CPU they are bare RuntimeErrors with no type of their own."""


def cause_of(error: BaseException) -> Cause:
    """Return the cause class of an exception that ended a command."""
    if isinstance(error, Diverged):
        return Cause.DIVERGED
    if is_out_of_memory(error):
        return Cause.OOM
    if isinstance(error, CampaignError):
        return Cause.BAD_CONFIG
    if isinstance(error, PeerLost):
        return Cause.LAUNCHER
    if is_of_storage(error):
        return Cause.STORAGE
    return Cause.BUG


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory ran out, on a CPU or on a device."""
    if isinstance(error, MemoryError | OutOfDeviceMemory):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    torch = sys.modules.get("torch")  # not imported here: convert and screen's start-up must not pay for it
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILED)


def message_of(error: BaseException) -> tuple[str, str]:
    """Return what happened and what to do, one sentence each (the second may be empty)."""
    if isinstance(error, CampaignError):
        return (f"{error.where}: {error.what}" if error.where else error.what), error.remedy
    text = " ".join(str(error).split())[:500]
    name = type(error).__name__
    return (text if isinstance(error, Diverged | OutOfDeviceMemory | PeerLost) else f"{name}: {text}"), ""
